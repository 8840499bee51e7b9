"""Installs what `make dist` has made, each in a clean place without Rust, and lets it do its main job there.

    run.sh try.py [PART…]        PARTS: files, c, python, node, bundlers, command, others, sdist, crates

A server starts with the policy of README's start; whoever may is served; a foreign origin, a missing token and an
unknown event are refused. README's starts must be done within a minute each. `sdist` and `crates` need Rust, and time.
"""

import sys

import inspecting
import try_c
import try_command
import try_node
import try_others
import try_python
import try_rust
from trying import failed, passed

PARTS = {
    "files": inspecting.run,
    "c": try_c.run,
    "python": try_python.run,
    "node": try_node.run,
    "bundlers": try_node.run_bundlers,
    "command": try_command.run,
    "others": try_others.run,
    "sdist": try_python.run_sdist,
    "crates": try_rust.run_crates,
}


def main() -> int:
    chosen = sys.argv[1:] or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        print(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
        return 2
    for part in chosen:
        PARTS[part]()
    print(f"{len(passed)} passed, {len(failed)} failed")
    return bool(failed) or not passed


sys.exit(main())
