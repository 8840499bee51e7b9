"""The types of the options are the core's table."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
import wsguard
from conftest import options
from wsguard import _asgi_policy
from wsguard._options import EventOptions, Options, TlsOptions, TokenEntry

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "scripts/options.py"


def test_the_types_are_written_from_the_table() -> None:
    subprocess.run([sys.executable, SCRIPT, "--check"], check=True, timeout=60)


@pytest.mark.parametrize("name", sorted(Options.__annotations__))
def test_each_option_is_one_of_the_core(name: str) -> None:
    # A value of no type: what is refused is the value, and not the name.
    with pytest.raises(wsguard.ConfigError) as refused:
        wsguard.Server(**options(**{name: {"no such": ["name"]}}))
    assert refused.value.option.split(".")[0] == name


def test_what_uvicorn_may_tighten_has_the_defaults_of_the_core() -> None:
    table = json.loads((SCRIPT.parents[2] / "core/proto/options.json").read_text(encoding="utf-8"))
    options = {option["name"]: option for group in table for option in group["options"]}
    stated = {name: int(options[name]["default"]) for name in _asgi_policy._DEFAULTS}
    assert stated == _asgi_policy._DEFAULTS


def test_what_must_be_stated_is_required() -> None:
    assert TokenEntry.__required_keys__ == {"user"}
    assert TlsOptions.__required_keys__ == {"cert", "key"}
    assert EventOptions.__required_keys__ == Options.__required_keys__ == frozenset()
