"""The wheel in a fresh environment of each Python, and the source archive without the repository."""

import glob
import os
import pathlib
import platform
import shutil
import subprocess

import peer
from trying import DIST, LIMIT_S, ROOT, VERSION, Skip, call, clean, one, start, trial, with_rust

MINORS = (10, 11, 12, 13, 14)


def interpreters() -> dict[int, str]:
    """Minor version -> an interpreter that starts."""
    found = {}
    for minor in MINORS:
        places = [
            f"python3.{minor}",
            *glob.glob(
                f"{os.environ.get('PYENV_ROOT', pathlib.Path.home() / '.pyenv')}/versions/3.{minor}.*/bin/python3"
            ),
        ]
        for place in places:
            # pyenv's shims exist for versions that are not active.
            if shutil.which(place) and subprocess.run([place, "-c", ""], capture_output=True).returncode == 0:
                found[minor] = shutil.which(place)
                break
    return found


def in_fresh_environment(folder: pathlib.Path, python: str, *from_where: str | pathlib.Path) -> pathlib.Path:
    call(python, "-m", "venv", folder / "venv", cwd=folder, env=clean(folder))
    call(
        folder / "venv/bin/pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *from_where,
        "wsguard",
        cwd=folder,
        env=clean(folder),
    )
    return folder / "venv/bin/python"


def judge(folder: pathlib.Path, python: pathlib.Path) -> None:
    (folder / "server.py").write_text(start("Python"))
    with peer.serving([str(python), "-u", "server.py"], folder, clean(folder)) as address:
        peer.judge(address)


def run() -> None:
    found = interpreters()
    for minor in MINORS:

        @trial(f"Python start: wheel on 3.{minor}", LIMIT_S)
        def _(folder: pathlib.Path) -> None:
            if minor not in found:
                raise Skip(f"no Python 3.{minor} here")
            one(f"wsguard-*manylinux*_{platform.machine()}.whl")
            python = in_fresh_environment(
                folder, found[minor], "--no-index", "--only-binary", ":all:", "--find-links", DIST
            )
            judge(folder, python)
            said = call(python.with_name("wsguard"), "--version", cwd=folder, env=clean(folder))
            assert said.split() == ["wsguard", VERSION], said
            call(python, ROOT / "bindings-python/tests/wheel.py", cwd=folder, env=clean(folder))


def run_sdist() -> None:
    @trial("Python: sdist, built without the repository (needs Rust)")
    def _(folder: pathlib.Path) -> None:
        archive = one(f"wsguard-{VERSION}.tar.gz")
        python = interpreters()[max(interpreters())]
        env = with_rust(folder)
        call(python, "-m", "venv", folder / "venv", cwd=folder, env=env)
        install = [folder / "venv/bin/pip", "install", "--disable-pip-version-check", "--no-binary", "wsguard"]
        call(*install, archive, cwd=folder, env=env, limit_s=1800)
        judge(folder, folder / "venv/bin/python")
