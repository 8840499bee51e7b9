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

import versions
from trying import DIST, Skip, trial

GLIBC = (2, 17)


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
            asked = subprocess.run(
                ["readelf", "--version-info", "--wide", file], capture_output=True, text=True, check=True
            ).stdout
            found = {tuple(map(int, one.split("."))) for one in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", asked)}
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
