"""The expression language agrees with Python, over expressions drawn from its whole grammar."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamapp
from streamapp.pipelines.expressions import of_value


class Inner(streamapp.Record):
    x: int
    y: float | None = None


class Value(streamapp.Record):
    a: int
    b: int
    f: float
    s: str
    t: str
    o: Inner
    l: list[int]  # noqa: E741 - short names make short expressions
    n: int | None = None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


#: What the names of the language mean to Python's own ``eval``.
NAMES = {
    "abs": abs,
    "ceil": math.ceil,
    "coalesce": _first,
    "ends_with": str.endswith,
    "float": float,
    "floor": math.floor,
    "has": lambda value: value is not None,
    "int": int,
    "len": len,
    "lower": str.lower,
    "max": max,
    "min": min,
    "round": round,
    "starts_with": str.startswith,
    "str": str,
    "strip": str.strip,
    "upper": str.upper,
}

_NUMBERS = st.sampled_from(["a", "b", "f", "o.x", "o.y", "n", "l[0]", "l[a]", "0", "1", "2", "0.5"])
#: What cannot fail: the language does not compute what it does not need, ``eval``'s function does.
_SURE = st.sampled_from(["n", "o.y", "a", "f", "1"])
_TEXTS = st.sampled_from(["s", "t", "'x'", "' Xy'", "''"])


def _joined(parts: st.SearchStrategy[str], operations: list[str]) -> st.SearchStrategy[str]:
    made = st.tuples(parts, st.sampled_from(operations), parts).map(" ".join)
    return made | made.map("({})".format)


def _called(names: list[str], *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    given_ = st.tuples(*parts).map(", ".join)
    return st.tuples(st.sampled_from(names), given_).map(lambda of: f"{of[0]}({of[1]})")


def _numbers(below: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        _joined(below, ["+", "-", "*", "/", "//", "%"])
        | below.map("-{}".format)
        | below.map("({}) ** 2".format)
        | _called(["abs", "floor", "ceil", "round", "int", "float", "str"], below)
        | _called(["min", "max"], below, below)
        | _called(["coalesce"], _SURE, _SURE)
        | _called(["len"], _TEXTS)
    )


def _truths(numbers: st.SearchStrategy[str], texts: st.SearchStrategy[str]) -> Any:
    compared = ["<", "<=", ">", ">=", "==", "!="]
    return (
        _joined(numbers, compared)
        | _joined(_joined(_NUMBERS, compared), compared)
        | st.tuples(_NUMBERS, _NUMBERS).map(lambda of: f"0 < {of[0]} <= {of[1]}")
        | _joined(texts, [*compared, "in", "not in"])
        | st.tuples(texts, texts).map(lambda of: f"{of[0]} in [{of[1]}, 'x']")
        | numbers.map("{} in l".format)
        | numbers.map("({}) is not None".format)
        | _called(["has"], st.sampled_from(["n", "o.y", "a"]))
        | _called(["starts_with", "ends_with"], texts, texts)
    )


NUMBERS = st.recursive(_NUMBERS, _numbers, max_leaves=6)
TEXTS = st.recursive(
    _TEXTS, lambda t: _called(["lower", "upper", "strip"], t) | _joined(t, ["+"]), max_leaves=3
)
TRUTHS = st.recursive(
    _truths(NUMBERS, TEXTS),
    lambda below: _joined(below, ["and", "or"]) | below.map("not {}".format),
    max_leaves=4,
)
EXPRESSIONS = (
    TRUTHS
    | NUMBERS
    | TEXTS
    | st.tuples(NUMBERS, TRUTHS, TEXTS).map(lambda of: f"{of[0]} if {of[1]} else {of[2]}")
)
VALUES = st.builds(
    Value,
    a=st.integers(-2, 2),
    b=st.integers(-2, 2),
    f=st.sampled_from([-1.5, 0.0, 0.5, 2.0]),
    s=st.sampled_from(["", "x", "Xy", " x"]),
    t=st.sampled_from(["x", "y", ""]),
    o=st.builds(Inner, x=st.integers(0, 3), y=st.sampled_from([None, 0.25])),
    l=st.lists(st.integers(-1, 2), max_size=3),
    n=st.sampled_from([None, 0, 3]),
)


def outcome(function: Any, *given_: Any) -> tuple[Any, ...]:
    """Return what a function returns, with its type; or that it fails."""
    try:
        result = function(*given_)
    except Exception:  # noqa: BLE001 - whatever it is, a record would be in error
        return ("an error",)
    return type(result), repr(result)


def plain(value: Value) -> dict[str, Any]:
    return value.asdict() | {"o": value.o.asdict()}


@pytest.mark.filterwarnings("ignore:.* with a literal:SyntaxWarning")
@given(EXPRESSIONS, VALUES)
def test_an_expression_computes_what_python_would(text: str, value: Value) -> None:
    names = {name: getattr(value, name) for name in Value.__struct_fields__}
    expected = outcome(eval, text, {"__builtins__": {}, **NAMES}, names)
    assert outcome(of_value(Value).function(text), value) == expected
    assert outcome(of_value(None).function(text), value) == expected
    assert outcome(of_value(None).function(text), plain(value)) == expected
    assert outcome(of_value(dict).function(text), plain(value)) == expected
