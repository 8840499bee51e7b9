"""Python objects to JSON and back: what the standard library says, for whatever it says it of."""

from __future__ import annotations

import enum
import json
import math
import random
import string
from typing import Any

import pydantic
import pytest
import wsguard
from wsguard._wsguard import dumps, loads

HAS_NEXT = hasattr(math, "nextafter")
ALPHABET = string.printable + 'éß漢😀\u2028\x7f\x00\x1f\\"/'


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(6 if depth > 4 else 8)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.choice([0, -1, 1, 2**53, -(2**53), 2**63, -(2**63) - 1, 10**40, chance.randrange(-999, 999)])
    if kind == 2:
        return chance.choice([0.0, -0.0, 1.5, 1e300, 5e-324, 0.1, 1e16, 1e22, chance.uniform(-1e9, 1e9)])
    if kind <= 5:
        return "".join(chance.choice(ALPHABET) for _ in range(chance.randrange(40)))
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(5))]
    return {value(chance, 9) if chance.random() < 0.2 else str(i): value(chance, depth + 1) for i in range(4)}


def test_as_the_standard_library_does() -> None:
    chance = random.Random(5)
    for _ in range(3000):
        stated = value(chance)
        text = dumps(stated)
        assert json.loads(text) == json.loads(json.dumps(stated))
        for spelled in (text, json.dumps(stated), json.dumps(stated, ensure_ascii=False, indent=1)):
            made = loads(spelled)
            assert made == json.loads(spelled)
            assert repr(made) == repr(json.loads(spelled))


def test_strings_are_spelled_as_the_standard_library_spells_them() -> None:
    for text in ["".join(map(chr, range(0x300))), ALPHABET]:
        assert dumps(text) == json.dumps(text, ensure_ascii=False)


def test_floats_are_spelled_as_the_standard_library_spells_them() -> None:
    chance = random.Random(7)
    numbers = [sign * 10.0**exponent for exponent in range(-30, 30) for sign in (1, -1)]
    numbers += [math.nextafter(number, to) for number in numbers for to in (0.0, math.inf)] if HAS_NEXT else []
    numbers += [chance.uniform(0, 10) * 10.0 ** chance.randrange(-300, 300) for _ in range(5000)]
    for number in [*numbers, 0.0, -0.0, 5e-324, 1.7976931348623157e308]:
        assert dumps([number, {number: 1}]).replace(" ", "") == json.dumps([number, {number: 1}]).replace(" ", "")

    class Real(float):
        def __repr__(self) -> str:
            return "own"

    assert dumps([Real(1e300), Real(1.5)]) == "[1e+300,1.5]"


def test_subclasses_are_what_they_extend() -> None:
    class Text(str):
        pass

    class Number(enum.IntEnum):
        ONE = 1

    class Name(str, enum.Enum):
        A = "a"

    class Table(dict[str, int]):
        pass

    assert dumps([Text("x"), Number.ONE, Name.A, Table(a=1), (1, 2)]) == '["x",1,"a",{"a":1},[1,2]]'
    for keys in ({1: 0, 1.5: 0, None: 0}, {True: 0, False: 0}, {1e16: 0, -0.0: 0}):
        assert dumps(keys) == json.dumps(keys).replace(" ", "")


def test_what_is_no_json() -> None:
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="nan and infinity are not JSON"):
            dumps([number])
    with pytest.raises(TypeError, match="object of type set is not JSON serializable"):
        dumps({"a": {1}})
    with pytest.raises(TypeError, match="object of type type is not JSON serializable"):
        dumps(int)
    with pytest.raises(TypeError, match="object of type ModelMetaclass is not JSON serializable"):
        dumps(pydantic.BaseModel)
    with pytest.raises(ValueError, match="nan and infinity are not JSON"):
        dumps({math.nan: 1})
    with pytest.raises(TypeError, match="keys must be str, int, float, bool or None, not tuple"):
        dumps({(1, 2): 1})
    with pytest.raises(wsguard.InvalidArgument, match="a text must not have lone surrogates"):
        dumps("\ud800")
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="nested deeper than 256, or circular"):
        dumps(circle)
    for text in ("", "[", "[1,]", "{'a':1}", '"\\ud800"', "01x", "nul", '{"a"}', "[1]]", '"a', '"\\x"', "[" * 2000):
        with pytest.raises(ValueError, match=r"not JSON at byte \d+|could not convert"):
            loads(text)


def test_json_goes_out_as_it_is() -> None:
    class Point(pydantic.BaseModel):
        x: int

    assert dumps({"a": wsguard.Json('{"b": [1]}'), "m": Point(x=1)}) == '{"a":{"b": [1]},"m":{"x":1}}'
    assert str(wsguard.Json(b"[1]")) == "[1]"
    for text in ("", "{", "[1],", "nan", b"\xff"):
        with pytest.raises(ValueError, match="not "):
            wsguard.Json(text)
