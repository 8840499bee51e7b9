"""Compiles what is native, by Zig's C compiler: it runs on every Linux with glibc 2.17 or later, or on musl.

No path of this machine is left in a file: what a panic or an assertion prints is `/wsguard/…` or `/crates/…`.
"""

import os
import pathlib
import shlex
import subprocess
import sys

import targets

# The packages of the workspace that have a native file to ship.
NATIVE = ["wsguard-ffi", "wsguard-node", "wsguard-cli"]
# What a compiler could note as its time, and a wheel's files have as theirs (1980, where zip begins). The same for
# every commit: the C library is built again where it changes.
COMPILED_AT = "315532800"


class Compiler:
    """cargo for one target."""

    def __init__(self, target: targets.Target, work: pathlib.Path, source: pathlib.Path) -> None:
        self.target = target
        self.source = source
        self.work = work
        self.rustc = None if targets.installed(target.triple) else targets.second_toolchain(work)
        self.cc = self._wrapper("cc", "cc")
        self.env = self._environment()

    def can(self) -> bool:
        """Whether there is a standard library for this target, or its sources."""
        return targets.installed(self.target.triple) or self.rustc is not None

    @property
    def std(self) -> list[str]:
        """The arguments by which cargo builds the standard library, where the compiler has none for this target."""
        return ["-Zbuild-std=std,panic_unwind"] if self.rustc else []

    @property
    def release(self) -> pathlib.Path:
        return self.work.parent / self.target.triple / "release"

    @property
    def strip(self) -> str:
        """Strips files of this target: LLVM's objcopy, which comes with the compiler, knows every machine.

        It is made to be called by the compiler, which knows where its library is.
        """
        found = next(targets.sysroot().glob("lib/rustlib/*/bin/rust-objcopy"), None)
        if found is None:
            return "strip"
        library, program = (shlex.quote(str(path)) for path in (targets.sysroot() / "lib", found))
        return str(self._script("strip", f'LD_LIBRARY_PATH={library} exec {program} "$@"\n'))

    def build(self) -> None:
        """The C libraries, the addon and the command."""
        chosen = [word for name in NATIVE for word in ("-p", name)]
        run(
            ["cargo", "build", "--release", "--locked", "--target", self.target.triple, *self.std, *chosen],
            self.source,
            self.env,
        )

    def _wrapper(self, name: str, tool: str) -> pathlib.Path:
        """A script that is Zig's `tool` for this target: cargo and AWS-LC's build take a path, and no arguments."""
        arguments = f" -- -g0 -fno-sanitize=all -target {self.target.zig}" if tool in ("cc", "c++") else " --"
        bin = pathlib.Path(sys.prefix) / "bin"
        script = (
            f"export CARGO_ZIGBUILD_ZIG_COMMAND={shlex.quote(str(bin / 'python'))}\n"
            "export CARGO_ZIGBUILD_ZIG_COMMAND_ARGS='-m ziglang'\n"
            f'exec {shlex.quote(str(bin / "cargo-zigbuild"))} zig {tool}{arguments} "$@"\n'
        )
        return self._script(name, script)

    def _script(self, name: str, text: str) -> pathlib.Path:
        place = self.work / "bin" / self.target.triple / name
        place.parent.mkdir(parents=True, exist_ok=True)
        text = f"#!/bin/sh\n{text}"
        if not place.is_file() or place.read_text() != text:
            place.write_text(text)
            place.chmod(0o755)
        return place

    def _environment(self) -> dict[str, str]:
        home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
        # Of two prefixes that fit the compiler takes the last one: the narrower come later.
        shown = {str(home): "/cargo", str(self.work.parent): "/target", str(self.source): "/wsguard"}
        shown |= {str(crates): "/crates" for crates in (home / "registry/src").glob("*")}
        if self.rustc:
            shown[str(self.rustc.parent)] = "/rust"
        flags = [f"--remap-path-prefix={path}={name}" for path, name in shown.items()]
        if self.target.libc == "musl":
            # An addon is loaded into a process that has its libc already; Zig brings the objects that start a program.
            flags += ["-Ctarget-feature=-crt-static", "-Clink-self-contained=no"]
        name = self.target.triple.replace("-", "_")
        c_flags = " ".join(f"-ffile-prefix-map={path}={name}" for path, name in reversed(shown.items()))
        env = {
            "CARGO_TARGET_DIR": str(self.work.parent),
            "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
            f"CARGO_TARGET_{self.target.upper}_LINKER": str(self.cc),
            f"CC_{name}": str(self.cc),
            f"CXX_{name}": str(self._wrapper("cxx", "c++")),
            f"AR_{name}": str(self._wrapper("ar", "ar")),
            f"RANLIB_{name}": str(self._wrapper("ranlib", "ranlib")),
            f"CFLAGS_{name}": c_flags,
            "CARGO_PROFILE_RELEASE_DEBUG": os.environ.get("CARGO_PROFILE_RELEASE_DEBUG", "0"),
            "CARGO_PROFILE_RELEASE_STRIP": "symbols",
            "SOURCE_DATE_EPOCH": COMPILED_AT,
            # Zig's cache stays in the target directory.
            "XDG_CACHE_HOME": str(self.work / "cache"),
        }
        return env | ({"RUSTC": str(self.rustc), "RUSTC_BOOTSTRAP": "1"} if self.rustc else {})


def run(command: list[str | pathlib.Path], cwd: pathlib.Path, env: dict[str, str] | None = None) -> None:
    """Runs a command, and ends everything where it fails."""
    print("$", " ".join(str(word) for word in command), flush=True)
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=os.environ | (env or {}))
    if done.returncode != 0:
        sys.exit(f"dist: {command[0]} {command[1] if len(command) > 1 else ''} failed with {done.returncode}")
