#!/usr/bin/env python3
"""Writes the C column of tests/faces.toml as a header for faces.c, and sees that faces.c looks at every row of it.

Usage: faces.py HEADER
"""

import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
# Texts; the other columns are names of wsguard.h.
TEXTS = {"log_default", "callback_without_auth", "verdict_counters", "close_reason_absent", "reload_of_what_stays", "cluster_refused"}


def macros(rows):
    for name, row in rows.items():
        if "fields" in row:
            yield f"{name}(field)", " ".join(f"field({one})" for one in row["fields"])
        elif "c" in row:
            yield name, f'"{row["c"]}"' if name in TEXTS else row["c"]


def main():
    rows = tomllib.loads((HERE.parent / "faces.toml").read_text())
    program = (HERE / "faces.c").read_text()
    lines = []
    for name, value in macros(rows):
        macro = f"FACE_{name}"
        if macro.split("(")[0] not in program:
            sys.exit(f"tests/abi/faces.c does not look at [{name.split('(')[0]}] of tests/faces.toml")
        lines.append(f"#define {macro} {value}\n")
    pathlib.Path(sys.argv[1]).write_text("".join(lines))


if __name__ == "__main__":
    main()
