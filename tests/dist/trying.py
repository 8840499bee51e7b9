"""What the trials share: clean environments, the README's programs, and how a trial is counted."""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import versions

ROOT = versions.ROOT
DIST = ROOT / "dist"
VERSION = versions.current()
# The README promises a server within a minute, all of it: installing, starting, the first message.
LIMIT_S = 60
# No compiler of Rust is there. Debian's own would be in /usr/bin.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
passed: list[str] = []
failed: list[str] = []


class Skip(Exception):
    """A trial that this machine cannot do; the text says what it lacks."""


def trial(name: str, limit_s: float | None = None) -> Callable:
    """Runs the function now, in an empty folder, says how long it took, and goes on where it fails."""

    def runs(function: Callable[[pathlib.Path], None]) -> None:
        with tempfile.TemporaryDirectory(prefix="wsguard-try-") as folder:
            began = time.monotonic()
            try:
                function(pathlib.Path(folder))
                spent = time.monotonic() - began
                if limit_s is not None and spent > limit_s:
                    raise AssertionError(f"took {spent:.0f} s, over {limit_s:.0f} s")
            except Skip as lacking:
                print(f"skipped {name}: {lacking}", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
                failed.append(name)
                output = (getattr(error, "output", None) or b"").decode(errors="replace")[-3000:]
                print(f"FAILED  {name}: {error}\n{output}", flush=True)
            else:
                passed.append(name)
                print(f"passed  {name}: {spent:.1f} s", flush=True)

    return runs


def clean(folder: pathlib.Path, *first: str | pathlib.Path, **more: str) -> dict[str, str]:
    """An environment without anything of this one but proxies and registries; `first` goes before the rest of PATH."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if re.match(r"(?i)(pip_|npm_config_registry|https?_proxy|no_proxy|ssl_cert)", name)
    }
    for name in ("pip.conf", ".npmrc"):
        source = pathlib.Path.home() / (".config/pip/pip.conf" if name == "pip.conf" else name)
        if source.is_file():
            shutil.copy(source, folder / name)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    env = kept | {"PATH": os.pathsep.join([*map(str, first), PATH]), "HOME": str(home), "LC_ALL": "C.UTF-8"} | more
    assert shutil.which("cargo", path=env["PATH"]) is None and shutil.which("rustc", path=env["PATH"]) is None, (
        "Rust is on the path"
    )
    return env


def with_rust(folder: pathlib.Path) -> dict[str, str]:
    """As `clean`, and the compiler: what who builds from source has. Nothing that was compiled before is used."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Skip("no Rust here")
    env = clean(folder)
    env["PATH"] = os.pathsep.join([str(pathlib.Path(cargo).parent), env["PATH"]])
    for name, usual in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")):
        env[name] = os.environ.get(name, str(pathlib.Path.home() / usual))
    return env


def call(*command: str | pathlib.Path, cwd: pathlib.Path, env: dict[str, str], limit_s: float = 600) -> str:
    """Runs a command; an error has its output."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, [str(word) for word in command], done.stdout)
    return done.stdout.decode(errors="replace")


def start(language: str) -> str:
    """The program of README's start in `language`, on any free port."""
    section = re.search(rf"^## Sixty seconds: {language}$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    blocks = dict(reversed(re.findall(r"^```(\w+)[^\n]*\n(.*?)^```$", section[1], re.M | re.S)))
    kind = {"Rust": "rust", "Python": "python", "Node": "js", "C": "c"}[language]
    program = blocks[kind].replace("127.0.0.1:8080", "127.0.0.1:0")
    assert "127.0.0.1:0" in program, f"README's start in {language} listens elsewhere"
    if language == "Python":
        program = program.replace(
            "server.run()", 'server.run(started=lambda: print("listening on", server.address, flush=True))'
        )
    return program


def one(pattern: str) -> pathlib.Path:
    """The one file of dist/ that fits."""
    found = sorted(DIST.glob(pattern))
    if not found:
        raise Skip(f"there is no dist/{pattern}; make dist builds it")
    assert len(found) == 1, found
    return found[0]


@contextlib.contextmanager
def unpacked(archive: pathlib.Path, folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The one folder that is in an archive."""
    shutil.unpack_archive(archive, folder, format="gztar", filter="data")
    yield folder / archive.name.removesuffix(".tar.gz").removesuffix(".crate")
