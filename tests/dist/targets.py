"""The machines that packages are built for, and which of them this machine can build."""

import dataclasses
import functools
import pathlib
import platform
import subprocess


@dataclasses.dataclass(frozen=True)
class Target:
    """One machine: how each ecosystem calls it."""

    triple: str
    # What Zig's C compiler builds for. glibc 2.17 is the oldest that Rust's own standard library runs on.
    zig: str
    # The tag of wheels, as maturin's --compatibility takes it.
    wheel: str
    # The npm package @wsguard/…, and the fields by which npm chooses it.
    npm: str
    cpu: str
    libc: str
    # Debian's word for the architecture; None: no .deb.
    deb: str | None
    # Which of "wheels" and "npm" (the addon) have ever been loaded there. What has not is not made for upload.
    tried: frozenset[str]

    @property
    def short(self) -> str:
        """As archives are called: x86_64-linux-gnu."""
        return self.triple.replace("-unknown", "")

    @property
    def processor(self) -> str:
        """As `uname -m` has it."""
        return self.triple.split("-")[0]

    @property
    def upper(self) -> str:
        """As in names of environment variables."""
        return self.triple.replace("-", "_").upper()


# A wheel and an addon.
BOTH = frozenset({"wheels", "npm"})
TARGETS = [
    Target(
        *("x86_64-unknown-linux-gnu", "x86_64-linux-gnu.2.17", "manylinux2014"),
        *("linux-x64-gnu", "x64", "glibc", "amd64", BOTH),
    ),
    Target(
        *("aarch64-unknown-linux-gnu", "aarch64-linux-gnu.2.17", "manylinux2014"),
        *("linux-arm64-gnu", "arm64", "glibc", "arm64", BOTH),
    ),
    Target(
        *("x86_64-unknown-linux-musl", "x86_64-linux-musl", "musllinux_1_2"),
        *("linux-x64-musl", "x64", "musl", None, BOTH),
    ),
    Target(
        *("aarch64-unknown-linux-musl", "aarch64-linux-musl", "musllinux_1_2"),
        *("linux-arm64-musl", "arm64", "musl", None, frozenset({"npm"})),
    ),
]


@functools.cache
def sysroot() -> pathlib.Path:
    """Of the compiler that cargo calls."""
    printed = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout
    return pathlib.Path(printed.strip())


def installed(triple: str) -> bool:
    """Whether the compiler has the standard library of `triple` (`rustup target add`)."""
    return any((sysroot() / "lib/rustlib" / triple / "lib").glob("libstd-*.rlib"))


def host() -> str:
    """The triple of Linux on this machine, which has glibc."""
    return f"{platform.machine()}-unknown-linux-gnu"


def own() -> Target:
    """The target that is this machine."""
    return next(target for target in TARGETS if target.triple == host())


def second_toolchain(work: pathlib.Path) -> pathlib.Path | None:
    """A compiler with the sources of its standard library, if `toolchain.sh` has put one there."""
    rustc = work / "rust" / "rustc"
    return rustc if rustc.is_file() else None
