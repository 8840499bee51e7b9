#!/usr/bin/env python3
"""What can be said of the packages without building them: versions, the files of each, no install scripts.

Usage: check.py [TAG]; exit 1, and what is wrong, when something is.
"""

import subprocess
import sys

import targets
import versions

ROOT = versions.ROOT
# A crate has its sources, its licences, and nothing of the repository's tests.
WANTED = {"Cargo.toml", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"}
UNWANTED = ("tests/", "proptest-regressions/", "target/")


def faults_of_crates() -> list[str]:
    wrong = []
    for name in versions.CRATES:
        command = ["cargo", "package", "--list", "--allow-dirty", "--offline", "-p", name]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if listed.returncode != 0:
            wrong.append(f"{name}: {listed.stderr.strip()}")
            continue
        files = set(listed.stdout.split())
        wrong += [f"{name} has no {file}" for file in sorted(WANTED - files)]
        wrong += [f"{name} packs {file}" for file in sorted(files) if file.startswith(UNWANTED)]
    return wrong


def faults_of_npm() -> list[str]:
    checked = subprocess.run(
        ["node", ROOT / "bindings-node/scripts/pack.mjs", "--check"], capture_output=True, text=True
    )
    return (
        []
        if checked.returncode == 0
        else [next((line for line in checked.stderr.splitlines() if "Error" in line), checked.stderr)]
    )


def faults_of_targets() -> list[str]:
    """Node's loader knows each platform by the name that its package has."""
    program = "const {platform}=require('./bindings-node/lib/native.js');console.log(platform())"
    named = subprocess.run(["node", "-e", program], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    machine = subprocess.run(["rustc", "-vV"], capture_output=True, text=True).stdout.split("host: ")[1].split()[0]
    known = {target.triple: target.npm for target in targets.TARGETS}
    return (
        [] if known.get(machine, named) == named else [f"the loader asks for {named}, the package is {known[machine]}"]
    )


def main() -> int:
    tag = sys.argv[1] if len(sys.argv) > 1 else None
    wrong = versions.faults(tag) + faults_of_crates() + faults_of_npm() + faults_of_targets()
    for one in versions.placeholders() if tag is None else []:
        print(f"to be set before the first release: {one}")
    print("\n".join(wrong) or f"packages of {versions.current()}: versions, files and scripts are as they should be")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
