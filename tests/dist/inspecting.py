"""What no package may have: a path of the machine that built it, or a symbol of a newer glibc than it promises."""

import io
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator

import targets
import versions
from trying import DIST, Skip, trial

GLIBC = (2, 17)
# ELF's number of a processor.
PROCESSORS = {"x86_64": 62, "aarch64": 183}


def files() -> Iterator[tuple[str, bytes]]:
    """Every file in every archive."""
    for path in sorted(DIST.iterdir()):
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path.name}: {name}", archive.read(name)
        elif path.suffix in (".gz", ".tgz", ".crate"):
            with tarfile.open(path) as archive:
                yield from (
                    (f"{path.name}: {one.name}", archive.extractfile(one).read()) for one in archive if one.isfile()
                )
        elif path.suffix == ".deb":
            unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
                yield from (
                    (f"{path.name}: {one.name}", archive.extractfile(one).read()) for one in archive if one.isfile()
                )
        else:
            yield path.name, path.read_bytes()


def target_of(package: str) -> targets.Target:
    """The machine that a package's name promises."""
    for target in targets.TARGETS:
        wheel = package.endswith(f"{target.processor}.whl") and target.wheel in package
        if wheel or any(name in package for name in (target.short, target.npm, f"_{target.deb}.deb")):
            return target
    raise AssertionError(f"{package} has a program, and names no machine")


def asked(file: pathlib.Path, what: str) -> str:
    words = ["readelf", what, "--wide", file]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def places() -> list[bytes]:
    """The folders of this machine that something could have noted."""
    home = pathlib.Path.home()
    cargo = pathlib.Path(os.environ.get("CARGO_HOME", home / ".cargo"))
    target = pathlib.Path(os.environ["CARGO_TARGET_DIR"]).resolve()
    return [str(path).encode() for path in {cargo, target, versions.ROOT.resolve(), home / ".rustup"}]


def run() -> None:
    @trial("no file has a path of this machine")
    def _(_: pathlib.Path) -> None:
        wrong = [f"{name} has {place.decode()}" for name, data in files() for place in places() if place in data]
        assert not wrong, "\n".join(wrong)

    @trial("every program is for the processor and the C library that its package names")
    def _(folder: pathlib.Path) -> None:
        if shutil.which("readelf") is None:
            raise Skip("no readelf (binutils)")
        for name, data in files():
            if not data.startswith(b"\x7fELF"):
                continue
            target = target_of(name.split(":")[0])
            assert int.from_bytes(data[18:20], "little") == PROCESSORS[target.processor], name
            (folder / "file").write_bytes(data)
            needed = re.findall(r"NEEDED.*\[(.*)\]", asked(folder / "file", "--dynamic"))
            glibc = "libc.so.6" in needed
            assert glibc == (target.libc == "glibc"), f"{name} needs {needed}"

    @trial(f"nothing asks for a glibc after {'.'.join(map(str, GLIBC))}")
    def _(folder: pathlib.Path) -> None:
        if shutil.which("readelf") is None:
            raise Skip("no readelf (binutils)")
        seen = 0
        for name, data in files():
            if not data.startswith(b"\x7fELF"):
                continue
            file = folder / "file"
            file.write_bytes(data)
            symbols = re.findall(r"GLIBC_(\d+(?:\.\d+)+)", asked(file, "--version-info"))
            found = {tuple(map(int, one.split("."))) for one in symbols}
            newest = max(found, default=(0,))
            assert newest <= GLIBC, f"{name} asks for glibc {newest}"
            seen += bool(found)
        assert seen > 0, "no file is linked to glibc"

    @trial("the checksums are those of the files")
    def _(_: pathlib.Path) -> None:
        subprocess.run(
            ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"],
            cwd=DIST,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        listed = {line.split()[1] for line in (DIST / "SHA256SUMS").read_text().splitlines()}
        assert listed | {"SHA256SUMS"} == {path.name for path in DIST.iterdir()}
