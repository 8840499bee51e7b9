"""`help()` and the editor say the same: the docstrings of the extension begin as those of its stub."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsguard import _wsguard

STUB = Path(__file__).parents[1] / "python" / "wsguard" / "_wsguard.pyi"


def stated() -> Iterator[tuple[str, str]]:
    """The path of each documented name in the stub, and the first paragraph of its docstring."""
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            parts: list[ast.ClassDef | ast.FunctionDef] = [node]
            parts += [part for part in node.body if isinstance(part, ast.FunctionDef)]
            for part in parts:
                text = ast.get_docstring(part)
                if text is not None:
                    path = node.name if part is node else f"{node.name}.{part.name}"
                    yield path, text.split("\n\n")[0]


def plain(text: str) -> str:
    """Without what is Sphinx's or rustdoc's own."""
    return " ".join(re.sub(r":[a-z]+:`", "`", text).replace("``", "`").split())


@pytest.mark.parametrize(("path", "text"), list(stated()))
def test_the_docstring_is_that_of_the_stub(path: str, text: str) -> None:
    found: object = _wsguard
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, classmethod):
        found = found.__func__
    documented = getattr(found, "__doc__", None)
    if path.endswith(("__aiter__", "__anext__")):
        return  # a slot has Python's docstring
    assert documented is not None, path
    assert plain(documented).startswith(plain(text))


def test_public_names_are_documented() -> None:
    documented = {path for path, _ in stated()}
    for cls in ("Accept", "Reject", "Request", "Close", "Message", "Violation", "Connection"):
        for name in vars(getattr(_wsguard, cls)):
            if not name.startswith("_"):
                assert f"{cls}.{name}" in documented, name
