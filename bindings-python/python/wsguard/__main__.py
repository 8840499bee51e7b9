"""``python -m wsguard check policy.json``: prints the policy in force, or what is wrong with it."""

from __future__ import annotations

import argparse
import sys

from . import Error, __version__, _policy_file, _wsguard
from ._contract import options_text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m wsguard")
    parser.add_argument("--version", action="version", version=f"wsguard {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="prints the policy in force, or what is wrong with it")
    check.add_argument("policy", help="a file of options, JSON or TOML; - for JSON on standard input")
    policy = parser.parse_args().policy
    try:
        text = sys.stdin.read() if policy == "-" else options_text(_policy_file.read(policy))
        print(_wsguard.policy_in_force(text))
    except (Error, OSError, UnicodeDecodeError) as error:
        code = f"{error.code}: " if isinstance(error, Error) else ""
        print(f"{code}{error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
