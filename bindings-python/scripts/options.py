#!/usr/bin/env python3
"""Writes python/wsguard/_options.py, the types of the options, from the core's table (core/proto/options.json).

Usage: options.py [--check]; with --check it only compares, and exits with 1 when they differ.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
import textwrap
from typing import Any

HERE = pathlib.Path(__file__).resolve().parents[1]
TARGET = HERE / "python/wsguard/_options.py"
TABLE = HERE.parent / "core/proto/options.json"

#: What Python accepts beyond the table.
NOTES = {
    "EventOptions.schema": "A Pydantic model or a `TypeAdapter` will do.",
    "Options.auth": "`@server.authenticate` implies `callback`.",
    "Options.events": "Those of `@server.on` need not be listed.",
}
#: The policy may be put together from several places.
LATE = {"Options"}

HEAD = '''"""The options, for type checkers. Written by scripts/options.py from the core's table; do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict
'''


def literal(values: list[Any]) -> str:
    return f"Literal[{', '.join(json.dumps(value) for value in values)}]"


def type_of(option: dict[str, Any], within: str = "") -> str:
    """The Python type of what an option accepts."""
    match option["type"]:
        case "flag":
            return "bool"
        case "text":
            return "str | PathLike[str]" if within == "TlsOptions" else "str"
        case "whole":
            return "int"
        case "number":
            return "float"
        case "codes" | "choice":
            return literal(option["values"])
        case "list":
            return f"Sequence[{type_of(option['item'])}]"
        case "map":
            return f"Mapping[str, {type_of(option['item'])}]"
        case "section":
            return str(option["section"])
        case "ways":
            return " | ".join([literal(option["values"]), *(way_name(way) for way in WAYS[option["section"]])])
        case "one_or_many":
            return "str | Sequence[str]"
        case "route":
            return "Options"
        case "any":
            return "Any"
        case other:
            raise SystemExit(f"{option['name']}: no Python type is known for {other}")


def way_name(option: dict[str, Any]) -> str:
    """One way of several is an object of its own: ``{"tokens": […]}``."""
    return f"Auth{str(option['name']).capitalize()}"


def marked(text: str) -> str:
    """A text with its code as Python's documentation marks it, and Python's names of values."""
    names = {"null": "None", "true": "True", "false": "False"}
    return re.sub(r"`([^`]+)`", lambda code: f"``{names.get(code[1], code[1])}``", text)


def meaning(section: str, option: dict[str, Any]) -> str:
    """Meaning, range and default."""
    parts = [option["doc"]]
    if "range" in option:
        parts.append(f"From {option['range']}.")
    if option["required"]:
        parts.append("Required.")
    elif "absent" in option:
        parts.append(f"Default: {option['absent']}.")
    elif option["type"] != "section":
        parts.append(f"Default: `{option['default']}`.")
    if note := NOTES.get(f"{section}.{option['name']}"):
        parts.append(note)
    return marked(" ".join(parts))


def documented(text: str) -> str:
    lines = textwrap.wrap(f'"""{text}"""', 116, break_long_words=False, break_on_hyphens=False)
    return "".join(f"    {line}\n" for line in lines)


def field(section: str, option: dict[str, Any]) -> str:
    null = " | None" if option["nullable"] and option["type"] != "any" else ""
    return f"    {option['name']}: {type_of(option, section)}{null}\n{documented(meaning(section, option))}"


def typed_dict(section: dict[str, Any]) -> str:
    name, doc, options = section["name"], documented(marked(section["doc"])), section["options"]
    required = [option for option in options if option["required"]] if name not in LATE else []
    others = [option for option in options if option not in required]
    base = ""
    if required and others:
        fields = "".join(field(name, option) for option in required)
        base = f"class _{name}(TypedDict):\n{fields}\n\n"
        options = others
    fields = "".join(field(name, option) for option in options)
    return f"{base}class {name}({f'_{name}' if base else 'TypedDict'}, total=False):\n{doc}\n{fields}"


def way(option: dict[str, Any]) -> str:
    doc = documented(marked(option["doc"]))
    return f"class {way_name(option)}(TypedDict):\n{doc}\n    {option['name']}: {type_of(option)}\n"


SECTIONS = json.loads(TABLE.read_text(encoding="utf-8"))
WAYS: dict[str, list[dict[str, Any]]] = {
    option["section"]: next(section["options"] for section in SECTIONS if section["name"] == option["section"])
    for section in SECTIONS
    for option in section["options"]
    if option["type"] == "ways"
}


def text() -> str:
    """The whole file."""
    objects = [way(option) for options in WAYS.values() for option in options]
    policy, *others = SECTIONS
    objects += [typed_dict(section) for section in others if section["name"] not in WAYS]
    return "\n\n".join([HEAD, *objects, typed_dict(policy)])


def main() -> None:
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") != text():
            sys.exit("python/wsguard/_options.py is not the core's table; run bindings-python/scripts/options.py")
        return
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
