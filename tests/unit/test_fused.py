"""A chain of stateless steps, and where it stops at an error."""

import operator
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.errors import ConfigError, InputError
from streamapp.operators.fused import Filter, FlatMap, Fused, KeyBy, Map, Peek
from streamapp.operators.operator import RowError


def rows_of(values: Sequence[object], origins: list[int] | None = None) -> Rows:
    n = len(values)
    return Rows(
        [f"k{i}" for i in range(n)],
        [10 * i for i in range(n)],
        list(values),
        [i - 1 for i in range(n)],
        list(range(n)) if origins is None else origins,
    )


def columns(rows: Rows) -> tuple[list[object], ...]:
    return (
        list(rows.keys),
        list(rows.times),
        list(rows.values),
        list(rows.marks),
        list(rows.origins),
    )


def test_every_column_follows_its_row() -> None:
    chain = Fused([Filter(lambda v: v % 2), Map(lambda v: v * 10)])
    assert columns(chain.process(rows_of([1, 2, 3]))) == (
        ["k0", "k2"],
        [0, 20],
        [10, 30],
        [-1, 1],
        [0, 2],
    )


def test_flat_map_gives_each_part_the_row_it_comes_from() -> None:
    chain = Fused([FlatMap(range), Filter(lambda v: v != 1), Map(str)])
    assert columns(chain.process(rows_of([2, 0, 3]))) == (
        ["k0", "k2", "k2"],
        [0, 20, 20],
        ["0", "0", "2"],
        [-1, 1, 1],
        [0, 2, 2],
    )


def test_filters_inside_of_nested_flat_maps_leave_out_one_part_only() -> None:
    chain = Fused([FlatMap(range), FlatMap(range), Filter(lambda v: v == 0), KeyBy(lambda _: "x")])
    out = chain.process(rows_of([3, 3]))
    assert (out.values, out.keys, out.origins) == ([0] * 4, ["x"] * 4, [0, 0, 1, 1])


def test_columns_that_no_step_changes_are_passed_on_as_they_are() -> None:
    rows = rows_of([1, 2])
    out = Fused([Map(str), Peek(print)]).process(rows)
    assert out.keys is rows.keys
    assert out.times is rows.times


def test_a_key_is_a_field_or_what_a_function_says() -> None:
    named = [{"id": 1, "items": "a"}, {"id": 2, "items": "b"}]
    assert Fused([KeyBy("items")]).process(rows_of(named)).keys == ["a", "b"]
    assert Fused([KeyBy("real")]).process(rows_of([3, 4])).keys == [3, 4]
    both = Fused([KeyBy("nowhere"), KeyBy(lambda v: (v["id"], b"x"))])
    assert both.process(rows_of(named)).keys == [(1, b"x"), (2, b"x")]


def test_a_key_is_that_of_the_value_at_its_step() -> None:
    out = Fused([Map(str), KeyBy(lambda v: v), Map(int)]).process(rows_of([7]))
    assert (out.keys, out.values) == (["7"], [7])


@pytest.mark.parametrize("key", [None, 1.5, True, ["a"], (1, None), (1, (2,)), (True,)])
def test_a_bad_key_is_named(key: Any) -> None:
    with pytest.raises(RowError) as caught:
        Fused([KeyBy(lambda _: key)]).process(rows_of([1]))
    assert isinstance(caught.value.__cause__, InputError)
    assert repr(key) in str(caught.value.__cause__)


@pytest.mark.parametrize("value", [{"other": 1}, object()])
def test_a_missing_field_is_named(value: Any) -> None:
    _, error = Fused([KeyBy("id")]).run(rows_of([value]))
    assert error is not None
    assert "'id'" in str(error.__cause__)


def test_peek_sees_rows_in_order_and_changes_nothing() -> None:
    seen: list[object] = []
    chain = Fused([Peek(seen.append), Filter(lambda v: v > 1), Peek(seen.append)])
    assert chain.process(rows_of([1, 2, 3])).values == [2, 3]
    assert seen == [1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "steps",
    [
        [Map(partial(operator.floordiv, 12))],
        [Filter(lambda v: 12 // v), Map(partial(operator.floordiv, 12))],
        [FlatMap(lambda v: [v]), Map(partial(operator.floordiv, 12)), KeyBy(lambda v: v)],
    ],
)
def test_an_error_keeps_the_rows_of_earlier_origins_and_calls_no_later_row(steps: Any) -> None:
    seen: list[object] = []
    chain = Fused([Peek(seen.append), *steps])
    brought, error = chain.run(rows_of([4, 3, 2, 0, 1], [5, 5, 8, 8, 9]))
    assert error is not None
    assert (error.origin, type(error.__cause__)) == (8, ZeroDivisionError)
    assert error.brought is brought
    assert (brought.values, list(brought.origins)) == ([3, 4], [5, 5])
    assert seen == [4, 3, 2, 0]


def test_an_error_inside_of_a_flat_map_takes_back_the_parts_before_it() -> None:
    def parts(value: int) -> Iterator[int]:
        yield value
        if value == 2:
            raise ValueError(value)

    brought, error = Fused([FlatMap(parts)]).run(rows_of([1, 2, 3]))
    assert error is not None
    assert (error.origin, brought.values) == (1, [1])


async def fetch(value: object) -> object:
    return value


async def parts_of(value: object) -> AsyncIterator[object]:
    yield value


class Fetch:
    async def __call__(self, value: object) -> object:
        return value


@pytest.mark.parametrize(
    "step",
    [Map(fetch), Filter(partial(fetch)), FlatMap(parts_of), KeyBy(fetch), Peek(Fetch())],
)
def test_a_step_that_must_be_awaited_is_refused(step: Any) -> None:
    with pytest.raises(ConfigError, match="async"):
        Fused([step])


def test_no_rows_and_no_steps() -> None:
    assert Fused([Filter(bool), Map(str)]).process(NO_ROWS) == NO_ROWS
    assert columns(Fused([]).process(rows_of([1, 2]))) == columns(rows_of([1, 2]))
