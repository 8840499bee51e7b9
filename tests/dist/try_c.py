"""The C archive and Debian's packages: README's start by pkg-config and by CMake, shared and static."""

import os
import pathlib
import platform
import shutil

import peer
from trying import DIST, LIMIT_S, VERSION, call, clean, one, start, trial, unpacked

MULTIARCH = f"{platform.machine()}-linux-gnu"
ALONE = """#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    if (count == 2 && dlopen(words[1], RTLD_NOW)) return 0;
    puts(dlerror());
    return 1;
}
"""
CMAKE = """cmake_minimum_required(VERSION 3.16)
project(start C)
find_package(wsguard @VERSION@ REQUIRED)
add_executable(shared server.c)
target_link_libraries(shared PRIVATE wsguard::wsguard)
add_executable(static server.c)
target_link_libraries(static PRIVATE wsguard::static)
"""


def judge(program: pathlib.Path, folder: pathlib.Path, env: dict[str, str]) -> None:
    with peer.serving([str(program)], folder, env) as address:
        peer.judge(address)


def start_by_pkg_config(folder: pathlib.Path, prefix: pathlib.Path, libdir: pathlib.Path) -> None:
    (folder / "server.c").write_text(start("C"))
    env = clean(folder, PKG_CONFIG_PATH=str(libdir / "pkgconfig"), LD_LIBRARY_PATH=str(libdir))
    flags = call("pkg-config", "--cflags", "--libs", "wsguard", cwd=folder, env=env).split()
    call("cc", "-Wall", "-Wextra", "-Werror", "server.c", "-o", "server", *flags, cwd=folder, env=env)
    judge(folder / "server", folder, env)


def by_cmake(folder: pathlib.Path, prefix: pathlib.Path) -> None:
    (folder / "server.c").write_text(start("C"))
    (folder / "CMakeLists.txt").write_text(CMAKE.replace("@VERSION@", VERSION.rsplit(".", 1)[0]))
    env = clean(folder)
    call("cmake", "-S", ".", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}", cwd=folder, env=env)
    call("cmake", "--build", "build", cwd=folder, env=env)
    for kind in ("shared", "static"):
        judge(folder / "build" / kind, folder, env)


def loads_alone(folder: pathlib.Path, cc: list[str], library: pathlib.Path, env: dict[str, str]) -> list[str]:
    """The command that loads a library into a program which has nothing that it could use by accident."""
    (folder / "alone.c").write_text(ALONE)
    call(*cc, "alone.c", "-o", "alone", "-ldl", cwd=folder, env=env)
    return [str(folder / "alone"), str(library)]


def debian_root(folder: pathlib.Path) -> pathlib.Path:
    """A root of its own into which dpkg installs both packages, as it does on a machine."""
    root = folder / "root"
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/updates").mkdir()
    (root / "var/lib/dpkg/status").touch()
    packages = [
        one(f"{name}_*_{call('dpkg', '--print-architecture', cwd=folder, env=clean(folder)).strip()}.deb")
        for name in ("libwsguard0", "libwsguard-dev")
    ]
    # libc6 is the machine's, not this root's.
    call(
        "dpkg",
        f"--root={root}",
        "--force-depends",
        "--force-script-chrootless",
        "--force-not-root",
        "--log=/dev/null",
        "-i",
        *packages,
        cwd=folder,
        env=clean(folder),
    )
    listed = call(
        "dpkg-query",
        f"--admindir={root}/var/lib/dpkg",
        "-W",
        "-f",
        "${Package} ${db:Status-Abbrev}\n",
        cwd=folder,
        env=clean(folder),
    )
    assert listed == "libwsguard-dev ii \nlibwsguard0 ii \n", listed
    return root


def run() -> None:
    @trial("C start: archive, pkg-config", LIMIT_S)
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-[0-9]*-{MULTIARCH}.tar.gz"), folder) as tree:
            moved = folder / "moved elsewhere"
            shutil.move(tree, moved.with_name("moved"))
            start_by_pkg_config(folder, folder / "moved", folder / "moved/lib")

    @trial("C: archive, CMake, shared and static")
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-[0-9]*-{MULTIARCH}.tar.gz"), folder) as tree:
            by_cmake(folder, tree)

    @trial("C: the shared library brings what it uses")
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-[0-9]*-{MULTIARCH}.tar.gz"), folder) as tree:
            env = clean(folder)
            call(*loads_alone(folder, ["cc"], tree / "lib/libwsguard.so", env), cwd=folder, env=env)

    @trial("C: the archive's own examples")
    def _(folder: pathlib.Path) -> None:
        with unpacked(one(f"wsguard-[0-9]*-{MULTIARCH}.tar.gz"), folder) as tree:
            call(
                "cmake",
                "-S",
                tree / "share/doc/wsguard/examples",
                "-B",
                "build",
                f"-DCMAKE_PREFIX_PATH={tree}",
                cwd=folder,
                env=clean(folder),
            )
            call("cmake", "--build", "build", cwd=folder, env=clean(folder))
            assert (folder / "build/jwt").is_file()

    @trial("C start: .deb, pkg-config", LIMIT_S)
    def _(folder: pathlib.Path) -> None:
        root = debian_root(folder)
        start_by_pkg_config(folder, root / "usr", root / "usr/lib" / MULTIARCH)

    @trial("C: .deb, CMake, shared and static")
    def _(folder: pathlib.Path) -> None:
        root = debian_root(folder)
        by_cmake(folder, root / "usr")

    if shutil.which("lintian"):

        @trial("C: lintian")
        def _(folder: pathlib.Path) -> None:
            debs = sorted(DIST.glob("libwsguard*.deb")) or [one("libwsguard*.deb")]
            call(
                "lintian",
                "--allow-root",
                "--fail-on",
                "error",
                *debs,
                cwd=folder,
                env=clean(folder, TMPDIR=os.environ.get("TMPDIR", "/tmp")),
            )
