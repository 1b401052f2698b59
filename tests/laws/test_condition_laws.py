"""What columns answer of a condition is what Python says of each value, and no object is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.counting_reader import columned

import streamapp
from streamapp.pipelines.conditions import condition_of, expressed, first_true


class Plain(streamapp.Record, frozen=True):
    a: int
    b: int
    f: float
    g: float
    s: str
    t: str
    p: bool
    q: bool
    n: int | None = None
    l: list[int] | None = None  # noqa: E741 - short names make short expressions


#: 2**53 is the least integer whose successor is no float; 2**63 the least that has no 64 bits.
_INTS = [0, 1, -1, 2, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
_FLOATS = [0.0, -0.0, 1.0, 0.5, 0.1, 2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), 1e308, 5e-324]
_TEXTS = ["", "a", "b", "ab", "é", "\U0001f600", "\uffff", "\x7f", "A"]

_records = st.builds(
    Plain,
    *[st.sampled_from(_INTS)] * 2,
    *[st.sampled_from(_FLOATS)] * 2,
    *[st.sampled_from(_TEXTS)] * 2,
    *[st.booleans()] * 2,
    st.none() | st.integers(0, 2),
    st.lists(st.integers(0, 1), max_size=1),
)
_batches = st.lists(_records, min_size=1, max_size=30)

#: Sides of comparisons that columns answer: fields of a kind, and the same constants in it.
_SIDES = {
    "int": (
        ["a", "b", "p", "this.a"],
        [*map(str, _INTS), "True", "false", "1.0", "-0.0", "9007199254740992.0"],
    ),
    "float": (
        ["f", "g", "this['f']"],
        [*map(repr, _FLOATS), "0", "1", str(2**53), str(-(2**63)), "1e999", "-1e999", "true"],
    ),
    "str": (["s", "t"], [*map(repr, _TEXTS)]),
}
_ORDER = ["==", "!=", "<", "<=", ">", ">="]


@st.composite
def _comparisons(draw: st.DrawFn) -> str:
    fields, constants = _SIDES[draw(st.sampled_from([*_SIDES]))]
    field, constant = st.sampled_from(fields), st.sampled_from(constants)
    if draw(st.booleans()):
        items = ", ".join(draw(st.lists(constant, max_size=4)))
        return f"{draw(field)} {draw(st.sampled_from(['in', 'not in']))} [{items}]"
    sides = [draw(field)]
    for _ in range(draw(st.integers(1, 3))):
        # Two constants beside each other are not answered.
        is_constant = sides[-1] in fields and draw(st.booleans())
        sides.append(draw(constant if is_constant else field))
    sides = sides if draw(st.booleans()) else sides[::-1]
    text = sides[0]
    for side in sides[1:]:
        text += f" {draw(st.sampled_from(_ORDER))} {side}"
    return text


def _conditions(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def more(below: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        parts = st.lists(below.map("({})".format), min_size=2, max_size=3)
        both = st.tuples(parts, st.sampled_from([" and ", " or "])).map(
            lambda of: of[1].join(of[0])
        )
        return both | below.map("not ({})".format)

    return st.recursive(leaves, more, max_leaves=6)


_alone = st.sampled_from(["p", "q", "a", "f", "s", "true", "0", "''", "null"])
plain = _conditions(_comparisons() | _alone)
_any_side = st.sampled_from(
    [side for fields, constants in _SIDES.values() for side in (*fields, *constants)]
    + ["n", "l", "null", "0.5", "9007199254740993.0", "9223372036854775808", "a + 1", "f * 2"]
    + ["-a", "len(s)", "this", "[1, 2]", "[a]", "10**400", str(10**400), "-9223372036854775809"]
)
_any_operation = st.sampled_from([*_ORDER, "in", "not in", "is", "is not", "+"])
#: Whatever may stand there: most of it is not answered, and nothing of that may be wrong.
odd = _conditions(st.tuples(_any_side, _any_operation, _any_side).map(" ".join) | _any_side)


def python(text: str, values: Sequence[Plain]) -> list[bool]:
    """Return what Python makes of a text, value by value."""
    words = {"true": True, "false": False, "null": None}
    code = compile(text.replace("this['f']", "this.f"), "", "eval")
    return [bool(eval(code, {**words, **of.asdict(), "this": of})) for of in values]  # noqa: S307 - a text of this test


def expected_places(said: Sequence[object]) -> list[int]:
    return [place for place, one in enumerate(said) if one]


@given(plain, _batches)
@example("a == 9007199254740992.0 or 0 < f < 9007199254740992", [])
def test_what_is_plain_is_answered_without_objects(text: str, values: list[Plain]) -> None:
    values = values or [Plain(2**53 + 1, 0, 2.0**53 - 1, 0.0, "", "", p=True, q=False)]
    condition = expressed(text, Plain)
    batch, reader = columned(values)
    places: Any = condition.step().places
    assert places is not None
    found = places(batch)
    assert [*found] == expected_places(python(text, values))
    assert [*found] == expected_places([condition.function(value) for value in values])
    assert {type(place) for place in found} <= {int}
    assert not reader.made
    assert len(reader.asked) == len({*reader.asked})


@given(odd, _batches)
@example("a == 9007199254740993.0", [Plain(2**53, 0, 0.0, 0.0, "", "", p=True, q=False)])
@example("f == 9007199254740993", [Plain(0, 0, 2.0**53, 0.0, "", "", p=True, q=False)])
@example("a == f", [Plain(2**53 + 1, 0, 2.0**53, 0.0, "", "", p=True, q=False)])
@example("a < 'x'", [Plain(0, 0, 0.0, 0.0, "", "", p=True, q=False)])
@example("a in [0.5, 1]", [Plain(1, 0, 0.0, 0.0, "", "", p=True, q=False)])
def test_what_is_answered_at_all_is_right(text: str, values: list[Plain]) -> None:
    try:
        condition = expressed(text, Plain)
    except streamapp.errors.ConfigError:
        return
    if condition.mask is None:
        return
    batch, _ = columned(values)
    found = condition.mask(batch)
    if found is not None:
        assert found.tolist() == python(text, values)


@given(st.lists(plain, min_size=1, max_size=3), _batches)
def test_a_record_goes_to_the_first_branch_that_is_true(
    texts: list[str], values: list[Plain]
) -> None:
    conditions = [condition_of("", text, Plain) for text in texts]
    batch, reader = columned(values)
    for n, last in enumerate(conditions):
        condition = first_true(conditions[:n], last)
        assert condition.mask is not None
        mask: Any = condition.mask(batch)
        naive = [
            not any(said[:n]) and said[n]
            for said in zip(*(python(text, values) for text in texts), strict=True)
        ]
        assert mask.tolist() == naive == [bool(condition.function(value)) for value in values]
    assert not reader.made
