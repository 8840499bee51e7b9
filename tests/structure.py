#!/usr/bin/env python3
"""Holds the shape of the Rust crates: which modules may import which.

- No circle among the modules of a crate: each can be read, tested and replaced with only what lies below it in mind.
- `wsguard-proto` does no I/O: no runtime, socket, TLS, thread or clock among its dependencies or in its code.

Tests in a module (`#[cfg(test)]`) may import anything. Usage: structure.py [--graph]; exit 1, and the circle, if there is one.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CRATES = ["core", "core/proto", "core/cli", "ffi", "bindings-python", "bindings-node"]
FORBIDDEN_CRATES = {"tokio", "mio", "rustls", "socket2", "nix", "rustix", "tracing", "libc"}
FORBIDDEN_WORDS = re.compile(
    r"std::(?:fs|thread|process|env|os)\b|std::net::(?:Tcp|Udp|ToSocket)|\bSystemTime\b|\bInstant\b|\bsleep\b")


def without_tests(text):
    """The text up to its unit tests, without comments."""
    text = re.split(r"#\[cfg\((?:all\()?test[^\n]*\n(?:\s*#\[[^\n]*\n)*\s*(?:pub(?:\([a-z]+\))? )?mod tests? \{", text)[0]
    return re.sub(r"//[^\n]*", "", text)


def modules(source):
    """Path of module -> its text, for every file that is not a test."""
    found = {}
    for path in sorted(source.rglob("*.rs")):
        parts = list(path.relative_to(source).with_suffix("").parts)
        if any("test" in part for part in parts):
            continue
        if parts[-1] in ("mod", "lib"):
            parts.pop()
        found[tuple(parts)] = without_tests(path.read_text())
    return found


def leaves(prefix, tree):
    """The paths of a `use` tree: `a::{b, c::d}` is a::b and a::c::d."""
    depth, start, parts = 0, 0, []
    for at, letter in enumerate(tree + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(tree[start:at].strip())
            start = at + 1
    for part in filter(None, parts):
        if "{" in part:
            head, inner = part.split("{", 1)
            names = [name for name in head.strip().split("::") if name]
            yield from leaves(prefix + names, inner.rsplit("}", 1)[0])
        else:
            yield tuple(prefix + [name.split(" as ")[0].strip() for name in part.split("::")])


def targets(text):
    """The paths that a file names: in `use`, and `crate::a::b` or `super::a` in expressions."""
    for tree in re.findall(r"^\s*(?:pub(?:\([a-z ]+\))? )?use ([^;]+);", text, re.M):
        yield from leaves([], " ".join(tree.split()))
    for inline in re.findall(r"\b((?:crate|super)(?:::\w+)+)", text):
        yield tuple(inline.split("::"))


def resolve(module, path, known):
    """The module of this crate that `path` names, seen from `module`; None when it is in another crate."""
    names = list(path)
    if names[0] == "crate":
        here, names = [], names[1:]
    elif names[0] in ("super", "self"):
        here = list(module)
        while names and names[0] in ("super", "self"):
            if names.pop(0) == "super":
                here = here[:-1]
    else:
        here = list(module)
        if tuple(here + names[:1]) not in known:
            return None
    for name in names:
        if tuple(here + [name]) not in known:
            break
        here.append(name)
    return tuple(here)


def graph(source):
    """Module -> the modules that it imports, and those it is made of.

    A part may import its folder's own file, which is the table of contents; whoever imports the folder imports all its parts.
    """
    known = modules(source)
    edges = {}
    for module, text in known.items():
        if module and module[:-1] in known:
            edges.setdefault(module[:-1], set()).add(module)
        for path in targets(text):
            other = resolve(module, path, known)
            if other is not None and other != module[:len(other)] and module != other[:len(module)]:
                edges.setdefault(module, set()).add(other)
    return edges


def circle(edges):
    """Some circle, as a list of modules, or None."""
    state, path = {}, []

    def visit(module):
        state[module] = "open"
        path.append(module)
        for other in sorted(edges.get(module, ())):
            if state.get(other) == "open":
                return path[path.index(other):] + [other]
            if other not in state and (found := visit(other)):
                return found
        path.pop()
        state[module] = "done"
        return None

    for module in sorted(edges):
        if module not in state and (found := visit(module)):
            return found
    return None


def faults_of_proto():
    manifest = (ROOT / "core/proto/Cargo.toml").read_text().split("[dev-dependencies]")[0]
    for name in re.findall(r"^([\w-]+) *=", manifest, re.M):
        if name in FORBIDDEN_CRATES:
            yield f"core/proto/Cargo.toml: {name} does I/O; the driver is the place for it"
    for module, text in modules(ROOT / "core/proto/src").items():
        # What is compiled for tests alone, outside of a module of tests.
        text = re.sub(r"#\[cfg\(test\)\]\s*(?:impl|pub\(crate\) struct)[^\n]*?(?:;|\{.*?\n\})", "", text, flags=re.S)
        for word in sorted(set(FORBIDDEN_WORDS.findall(text))):
            yield f"core/proto/src/{'/'.join(module)}: {word}; the pure layer is told such things, it does not ask"


def main():
    faults = list(faults_of_proto())
    for crate in CRATES:
        edges = graph(ROOT / crate / "src")
        if "--graph" in sys.argv:
            for module, others in sorted(edges.items()):
                print(crate, "::".join(module), "->", " ".join("::".join(other) for other in sorted(others)))
        if found := circle(edges):
            faults.append(f"{crate}: a circle: " + " -> ".join("::".join(module) or "lib" for module in found))
    print("\n".join(faults) or f"no circle in {', '.join(CRATES)}, and no I/O in core/proto")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
