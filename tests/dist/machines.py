"""Where packages for other machines run: with Debian's musl on this processor, and in QEMU on another one.

What that takes is unpacked from packages of Debian into the target directory; nothing is installed.
"""

import dataclasses
import functools
import os
import pathlib
import platform
import shutil
import subprocess

import targets
from trying import Skip

WORK = pathlib.Path(os.environ["CARGO_TARGET_DIR"]).resolve() / "dist"
HERE = pathlib.Path(__file__).resolve().parent
# What programs of each C library need, beside it.
PACKAGES = {"glibc": ["--complete", "python3", "libstdc++6"], "musl": ["musl"]}
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine that programs of a target run on."""

    target: targets.Target
    # Its file system: what is needed of it.
    root: pathlib.Path
    # What runs its processor; nothing, where it is ours.
    emulator: tuple[str, ...]

    def command(self, *program: str | pathlib.Path, libraries: pathlib.Path | None = None) -> list[str]:
        """How a program with its arguments is run from here; `libraries` is looked into for shared ones."""
        if self.target.libc == "musl":
            words = [str(self.loader), *(["--library-path", str(libraries)] if libraries else [])]
        else:
            words = ["-E", f"LD_LIBRARY_PATH={libraries}"] if libraries else []
        return [*self.emulator, *words, *map(str, program)]

    def static(self, *program: str | pathlib.Path) -> list[str]:
        """How a program is run that Zig has linked: for musl that is one without a loader."""
        return [*self.emulator, *map(str, program)]

    @property
    def python(self) -> pathlib.Path:
        """Its Python: Debian's, or for musl one that is built here."""
        if self.target.libc == "glibc":
            return self.root / "usr/bin/python3"
        if self.emulator:
            raise Skip("Python for musl is in no package registry, and is built for this processor alone")
        found = self.root / "python/bin/python3"
        if not found.exists():
            obtain(HERE / "musl_python.sh", self.root / "python", self.loader, DEBIAN[self.target.processor])
        return found

    @property
    def loader(self) -> pathlib.Path:
        """musl's libc is its loader, too."""
        return next(self.root.rglob(f"{self.target.processor}-linux-musl/libc.so"))


def obtain(*command: str | pathlib.Path, **environment: str) -> None:
    """Runs a script that gets something; Skip, with what it said last, where it cannot be had."""
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(WORK / "cache/zig")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace").strip().splitlines()
        raise Skip(said[-1] if said else f"{pathlib.Path(command[0]).name} ended with {done.returncode}")


def unpack(folder: pathlib.Path, architecture: str, packages: list[str], newer: bool = False) -> None:
    """Debian's packages into a folder that is there when it is complete."""
    if folder.is_dir():
        return
    coming = folder.with_name(f"{folder.name}.coming")
    shutil.rmtree(coming, ignore_errors=True)
    obtain(HERE / "debian.sh", coming, architecture, *packages, **({"NEWER": "1"} if newer else {}))
    coming.rename(folder)


@functools.cache
def of(target: targets.Target) -> Machine:
    """The machine of a target; Skip where it cannot be had."""
    root = WORK / "machines" / target.short
    # musl 1.2.3 of Debian 12 leaves relative relocations (RELR) out: Node's libraries for musl have them, and crash.
    unpack(root, DEBIAN[target.processor], PACKAGES[target.libc], newer=target.libc == "musl")
    if target.processor == platform.machine():
        return Machine(target, root, ())
    name = f"qemu-{target.processor}"
    if (found := shutil.which(name) or shutil.which(f"{name}-static")) is None:
        qemu = WORK / "machines/qemu"
        unpack(qemu, DEBIAN[platform.machine()], ["qemu-user-static"])
        found = str(qemu / f"usr/bin/{name}-static")
    return Machine(target, root, (found, "-L", str(root)))
