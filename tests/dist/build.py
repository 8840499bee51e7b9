"""Builds everything that a release uploads from the commit that is checked out, into `dist/`.

    run.sh build.py [--only PART,…] [--target TRIPLE,…]        PARTS: sdist, crates, wheels, c, command, npm

Each target is built whose standard library the compiler has (`rustup target add`), or that toolchain.sh has made
possible; at the end stands which were left out. The sources are those of HEAD, in a folder of their own: what is not
committed is in no package.
"""

import argparse
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

import compiling
import targets
import third_party
import versions
from compiling import run

ROOT = versions.ROOT
PARTS = ["sdist", "crates", "wheels", "c", "command", "npm"]
WORK = pathlib.Path(os.environ["CARGO_TARGET_DIR"]).resolve() / "dist"
SOURCE = WORK / "src"
OUT = ROOT / "dist"
# Shipped file -> the crate that it is made of.
PRODUCTS = {"python": "wsguard-python", "node": "wsguard-node", "c": "wsguard-ffi", "command": "wsguard-cli"}
LICENCES = "LICENSE-THIRD-PARTY.txt"


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def export() -> None:
    """The files of HEAD. What is there already, and the same, keeps its time: cargo compiles again what is newer."""
    if git("status", "--porcelain"):
        print("dist: there are changes that are not committed; they are in no package", flush=True)
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    SOURCE.mkdir(parents=True, exist_ok=True)
    listed = set()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for one in tar:
            path = SOURCE / one.name
            listed.add(path)
            if (
                one.isfile()
                and path.is_file()
                and not path.is_symlink()
                and path.read_bytes() == tar.extractfile(one).read()
            ):
                continue
            one.mtime = time.time()
            tar.extract(one, SOURCE, filter="tar")
    for path in sorted(SOURCE.rglob("*"), reverse=True):
        if path not in listed and (path.is_symlink() or path.is_file()):
            path.unlink()


def materials(epoch: str) -> dict[str, pathlib.Path]:
    """Writes the licences and the bill of materials of each product; product -> its folder."""
    data = third_party.metadata(SOURCE)
    made = {}
    for product, crate in PRODUCTS.items():
        folder = made[product] = WORK / "materials" / product
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LICENCES).write_text(third_party.licences(SOURCE, data, crate))
        text = third_party.bill(SOURCE, data, crate, crate, int(epoch))
        (folder / f"{crate}.cdx.json").write_text(text)
        shutil.copy(folder / f"{crate}.cdx.json", OUT / f"{crate}-{versions.current()}.cdx.json")
    return made


def python_folder(licences: pathlib.Path) -> pathlib.Path:
    """bindings-python with the licences beside its pyproject.toml, where they are packed."""
    folder = SOURCE / "bindings-python"
    for file in (SOURCE / "LICENSE-MIT", SOURCE / "LICENSE-APACHE", licences / LICENCES):
        shutil.copy(file, folder)
    return folder


def wheel(compiler: compiling.Compiler, licences: pathlib.Path) -> None:
    """One wheel for every Python from 3.10 on; auditwheel says whether it runs on the systems that its name says."""
    folder = python_folder(licences)
    out = WORK / "wheels" / compiler.target.triple
    shutil.rmtree(out, ignore_errors=True)
    run(
        [
            "maturin",
            "build",
            "--release",
            "--locked",
            "--target",
            compiler.target.triple,
            "--compatibility",
            compiler.target.wheel,
            "--auditwheel",
            "check",
            "--out",
            out,
            *compiler.std,
        ],
        folder,
        compiler.env,
    )
    for made in out.glob("*.whl"):
        # For musl maturin alone has judged: auditwheel takes this machine's libc.so, a text for glibc's linker, for musl's.
        if compiler.target.libc == "glibc":
            run(["auditwheel", "show", made], folder)
        shutil.copy(made, OUT)


def sdist(epoch: str, licences: pathlib.Path) -> None:
    run(["maturin", "sdist", "--out", OUT], python_folder(licences), {"SOURCE_DATE_EPOCH": epoch})


def crates() -> None:
    """Packs the crates and compiles each from its archive, with those that it depends on from theirs."""
    chosen = [word for name in versions.CRATES for word in ("-p", name)]
    # To cargo a version never changes: what it has unpacked or compiled of one is of an earlier commit.
    target = WORK / "crates"
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    for old in [target, *home.glob(f"registry/src/-*/wsguard*-{versions.current()}")]:
        shutil.rmtree(old, ignore_errors=True)
    run(["cargo", "package", "--locked", *chosen], SOURCE, {"CARGO_TARGET_DIR": str(target)})
    for name in versions.CRATES:
        shutil.copy(target / "package" / f"{name}-{versions.current()}.crate", OUT)


def command(compiler: compiling.Compiler, licences: pathlib.Path, epoch: str) -> None:
    """The program `wsguard`, in an archive."""
    name = f"wsguard-cli-{versions.current()}-{compiler.target.short}"
    path = OUT / f"{name}.tar.gz"
    files = {
        "wsguard": compiler.release / "wsguard",
        "README.md": SOURCE / "core/cli/README.md",
        LICENCES: licences / LICENCES,
    }
    files |= {one: SOURCE / one for one in ("LICENSE-MIT", "LICENSE-APACHE")}

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = int(epoch)
        return info

    packed = subprocess.Popen(["gzip", "-9n"], stdin=subprocess.PIPE, stdout=path.open("wb"))
    with tarfile.open(fileobj=packed.stdin, mode="w|") as tar:
        for inside, file in sorted(files.items()):
            tar.add(file, f"{name}/{inside}", filter=plain)
    packed.communicate()


def c_face(compiler: compiling.Compiler, licences: pathlib.Path, epoch: str) -> None:
    env = compiler.env | {
        "TARGET": str(compiler.release.parent),
        "CC": str(compiler.cc),
        "STRIP": compiler.strip,
        # The unwinder of panics, which Zig has and links only if it is told to.
        "LDLIBS": "-lunwind",
        "SOURCE_DATE_EPOCH": epoch,
    }
    words = [OUT, compiler.target.short, licences / LICENCES, licences / "wsguard-ffi.cdx.json"]
    if compiler.target.deb and shutil.which("dpkg-deb"):
        words.append(compiler.target.deb)
    run([SOURCE / "ffi/pack.sh", *words], SOURCE, env)


def npm(compilers: list[compiling.Compiler], licences: pathlib.Path, epoch: str) -> None:
    stated = [
        f"{one.target.npm}:{one.target.cpu}:{one.target.libc}:{one.release / 'libwsguard_node.so'}" for one in compilers
    ]
    run(
        ["node", SOURCE / "bindings-node/scripts/pack.mjs", OUT, licences / LICENCES, *stated],
        SOURCE,
        {"SOURCE_DATE_EPOCH": epoch},
    )


def toolchain(wanted: list[targets.Target]) -> None:
    """Gets Debian's Rust where a target needs it. Where it cannot be had it says why, and the other targets are built."""
    lacking = [one.triple for one in wanted if not targets.installed(one.triple)]
    if lacking and targets.second_toolchain(WORK) is None:
        print(f"dist: no standard library for {', '.join(lacking)}: trying Debian's Rust", flush=True)
        subprocess.run([ROOT / "tests/dist/toolchain.sh"], check=False)


def checksums() -> None:
    """SHA256SUMS of all files, as `sha256sum --check` reads it; and their sizes."""
    lines = []
    for file in sorted(OUT.iterdir()):
        if file.name != "SHA256SUMS":
            lines.append(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
            print(f"{file.stat().st_size / 1024:10.0f} KiB  {file.name}")
    (OUT / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--target", default=",".join(one.triple for one in targets.TARGETS))
    parser.add_argument("--untried", action="store_true", help="addons and wheels also where none was ever loaded")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if wrong := versions.faults(None):
        sys.exit("\n".join(wrong))
    if parts == PARTS:
        shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(exist_ok=True)
    # Modes of files are in the packages.
    os.umask(0o022)
    epoch = git("log", "-1", "--format=%ct")
    export()
    made = materials(epoch)
    if "sdist" in parts:
        sdist(epoch, made["python"])
    wanted = [one for one in targets.TARGETS if one.triple in asked.target.split(",")]
    toolchain(wanted)
    compilers = [compiling.Compiler(one, WORK, SOURCE) for one in wanted]
    able = [one for one in compilers if one.can()]
    # `wsguard` for npm asks for every addon that is packed beside it: none of them may be missing from the upload.
    loaded = {part: [one for one in able if asked.untried or part in one.target.tried] for part in targets.BOTH}
    for compiler in able:
        if {"c", "command", "npm"} & set(parts):
            compiler.build()
        if "c" in parts:
            c_face(compiler, made["c"], epoch)
        if "command" in parts:
            command(compiler, made["command"], epoch)
        if "wheels" in parts and compiler in loaded["wheels"]:
            wheel(compiler, made["python"])
    if "npm" in parts and loaded["npm"]:
        npm(loaded["npm"], made["node"], epoch)
    if "crates" in parts:
        crates()
    checksums()
    for compiler in compilers:
        if not compiler.can():
            triple = compiler.target.triple
            print(f"left out: {triple}: no standard library; rustup target add {triple}")


main()
