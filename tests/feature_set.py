#!/usr/bin/env python3
"""Keeps `tests/feature-set/Cargo.toml`: one set of features for each dependency, whatever part of the workspace is built.

Cargo compiles a dependency again for each set of features that a selection of packages asks for, and with it everything
above it: `cargo build -p wsguard-ffi` and `cargo build -p wsguard-node` would share next to nothing. The crate
`wsguard-feature-set` has no code: for each dependency of the core it asks for every feature that some part of the workspace
asks for, and every program and library of the workspace that is not a crate for others depends on it.

Usage: feature_set.py [--write]; without --write exit 1, and the difference, when the file is not what it should be.
"""

import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MANIFEST = ROOT / "tests" / "feature-set" / "Cargo.toml"
# What `make` builds by itself; each a selection that must not have features of its own.
# `wsguard-cli` is not among them: it is published, and a crate for others cannot depend on one that is not.
SELECTIONS = ["wsguard-host-rust wsguard-ffi", "wsguard-node", "wsguard-python", "wsguard-demo", "wsguard-bench",
              "wsguard-runner", "wsguard-faults", "wsguard-proxy-test", "wsguard-cluster-test",
              "wsguard-ffi", "wsguard-simulate", ""]
HEAD = """\
# Written by tests/feature_set.py (`make feature-set`), which says why.
[package]
name = "wsguard-feature-set"
version = "0.0.0"
edition.workspace = true
rust-version.workspace = true
publish = false
"""
# A line of `cargo tree --prefix depth`: depth, name, version, features.
LINE = re.compile(r"^(\d+)([A-Za-z0-9_-]+) v(\S+)(?: \((?:proc-macro|/[^)]*)\))*\|([^ ]*)( \(\*\))?$")


def features(selection, locked="--locked"):
    """(for the host, name, version) -> features, for each dependency from a registry."""
    packages = [word for name in selection.split() for word in ("-p", name)] or ["--workspace"]
    tree = subprocess.run(
        ["cargo", "tree", locked, "-e", "normal,build,dev" if not selection else "normal,build",
         "--prefix", "depth", "-f", "{p}|{f}", *packages],
        cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found, host_below, in_build = collections.defaultdict(set), [], None
    for line in tree.splitlines():
        section = re.match(r"^(\d+)\[(build|dev)-dependencies\]$", line)
        if section:
            in_build = (int(section[1]), section[2] == "build")
            continue
        read = LINE.match(line)
        if not read:
            continue
        depth = int(read[1])
        if in_build and depth < in_build[0]:
            in_build = None
        while host_below and host_below[-1] >= depth:
            host_below.pop()
        host = bool(host_below)
        if "(proc-macro)" in line or (in_build and in_build[1] and depth == in_build[0]):
            host = True
            host_below.append(depth)
        if "(/" not in line:
            found[host, read[2], read[3]] |= {name for name in read[4].split(",") if name}
    return found


def unequal(locked="--locked"):
    """(for the host, name, version) -> all features, for each dependency of the core that has not the same everywhere."""
    sets = [features(selection, locked) for selection in SELECTIONS]
    differing = {}
    for key in features("wsguard", locked):
        have = [found[key] for found in sets if key in found]
        union = set().union(*have)
        if any(names != union for names in have):
            differing[key] = union
    return differing


def manifest(differing):
    """The crate's manifest that makes them equal."""
    lines = [HEAD]
    for host, table in ((False, "target.'cfg(target_os = \"linux\")'.dependencies"), (True, "build-dependencies")):
        lines.append(f"\n[{table}]\n")
        versions = collections.Counter(name for on, name, _ in differing if on == host)
        for (on, name, version), names in sorted(differing.items()):
            if on != host:
                continue
            listed = ", ".join(f'"{feature}"' for feature in sorted(names - {"default"}))
            alias = name if versions[name] == 1 else f"{name}-{version.split('.')[0]}"
            package = "" if alias == name else f'package = "{name}", '
            default = "" if "default" in names else "default-features = false, "
            lines.append(f'{alias} = {{ {package}version = "{version}", {default}features = [{listed}] }}\n')
    return "".join(lines)


def main():
    if "--write" in sys.argv[1:]:
        MANIFEST.write_text(HEAD)
        MANIFEST.write_text(manifest(unequal("--offline")))
        subprocess.run(["cargo", "metadata", "--offline", "--format-version", "1"], cwd=ROOT, stdout=subprocess.DEVNULL,
                       check=True)
    differing = unequal()
    for host, name, version in sorted(differing):
        print(f"{name} {version}{' (for the host)' if host else ''} has not the same features in every selection")
    if differing:
        print("run `make feature-set`, or what is below the faces is compiled several times")
        sys.exit(1)
    print("one set of features for each dependency of the core")


main()
