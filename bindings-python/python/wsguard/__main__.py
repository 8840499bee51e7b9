"""``python -m wsguard check policy.json``: prints the policy in force, or what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import Error, __version__, _wsguard


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m wsguard")
    parser.add_argument("--version", action="version", version=f"wsguard {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="prints the policy in force, or what is wrong with it")
    check.add_argument("policy", help="a JSON file of options; - for standard input")
    policy = parser.parse_args().policy
    try:
        text = sys.stdin.read() if policy == "-" else Path(policy).read_text(encoding="utf-8")
        print(_wsguard.policy_in_force(text))
    except (Error, OSError, UnicodeDecodeError) as error:
        code = f"{error.code}: " if isinstance(error, Error) else ""
        print(f"{code}{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
