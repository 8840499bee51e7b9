#!/usr/bin/env python3
"""One version everywhere: crates, npm packages, lock files, documents that name one, CHANGELOG, and the tag.

Usage: versions.py [TAG]; exit 1, and what differs, when they are not the same.
"""

import json
import pathlib
import re
import sys

import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Crates that others can ask a registry for, so that they ask each other for a version.
CRATES = {"wsguard-proto": "core/proto", "wsguard": "core", "wsguard-cli": "core/cli"}
# Documents with file names that have the version in them.
NAMED = ["README.md", "ffi/README.md"]
# Files that ask for a version by its first numbers, as cargo and CMake take it.
ASKING = ["README.md", "ffi/README.md", "tests/abi/consumer/CMakeLists.txt"]


def current() -> str:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def stated() -> dict[str, str]:
    """Where a version is stated -> what stands there."""
    found = {}
    for folder in CRATES.values():
        manifest = tomllib.loads((ROOT / folder / "Cargo.toml").read_text())
        for other, wanted in manifest["dependencies"].items():
            if other in CRATES:
                found[f"{folder}/Cargo.toml: {other}"] = wanted["version"].lstrip("=")
    for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]:
        if package["name"].startswith("wsguard") and "source" not in package and package["version"] != "0.0.0":
            found[f"Cargo.lock: {package['name']}"] = package["version"]
    for folder in ("bindings-node", "bindings-node/client"):
        found[f"{folder}/package.json"] = json.loads((ROOT / folder / "package.json").read_text())["version"]
        lock = json.loads((ROOT / folder / "package-lock.json").read_text())
        found[f"{folder}/package-lock.json"] = lock["version"]
        found[f"{folder}/package-lock.json, its first package"] = lock["packages"][""]["version"]
    for document in NAMED:
        for one in re.findall(r"wsguard[\w-]*[-_@](\d+\.\d+\.\d+)", (ROOT / document).read_text()):
            found[f"{document}: {one}"] = one
    return found


def fits(version: str, first: str) -> bool:
    """Whether a version has these first numbers; before 1.0 the second is one of them."""
    return f"{version}.".startswith(f"{first}.") and (not first.startswith("0") or "." in first)


def asked() -> dict[str, str]:
    """Where a file asks for a version -> the numbers that stand there."""
    found = {}
    for document in ASKING:
        text = (ROOT / document).read_text()
        for one in re.findall(r'^wsguard = "([\d.]+)"|find_package\(wsguard ([\d.]+) ', text, re.M):
            found[f"{document} asks for {''.join(one)}"] = "".join(one)
    return found


def placeholders() -> list[str]:
    """What the workspace's manifest has no true value of yet: they end with `.invalid`, which no domain does."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    stated = {
        "repository": workspace["package"]["repository"],
        "maintainer": workspace["metadata"]["dist"]["maintainer"],
    }
    return [f"Cargo.toml: {name} is still {value}" for name, value in stated.items() if ".invalid" in value]


def faults(tag: str | None) -> list[str]:
    """What forbids to build the packages; with a tag, what forbids to upload them."""
    version = current()
    wrong = [f"{place}: {other}, not {version}" for place, other in stated().items() if other != version]
    wrong += [f"{place}, which {version} does not fit" for place, first in asked().items() if not fits(version, first)]
    if tag is not None:
        wrong += placeholders()
        if tag.removeprefix("v") != version or not tag.startswith("v"):
            wrong.append(f"the tag is {tag}, not v{version}")
        if not re.search(rf"^## \[?{re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M):
            wrong.append(f"CHANGELOG.md has no section of {version}")
    return wrong


if __name__ == "__main__":
    wrong = faults(sys.argv[1] if len(sys.argv) > 1 else None)
    print("\n".join(wrong) or f"one version everywhere: {current()}")
    sys.exit(bool(wrong))
