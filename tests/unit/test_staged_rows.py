"""Rows that a pipeline writes as bytes, beside those that memory holds of the same table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tables import TableBench

from streamapp.serde.ordered_keys import (
    encode_all_under,
    encode_key,
    encode_under,
    encode_with_last,
)
from streamapp.serde.strict_json import json_lines, json_writer
from streamapp.state.shard import Shard

_HEAD = encode_key((7,))
PARTS = st.text(max_size=3) | st.integers(-(1 << 65), 1 << 65) | st.binary(max_size=3)
KEYS = PARTS | st.tuples(PARTS, PARTS)


def staged(shard: Shard, **rows: int | None) -> None:
    shard.stage({encode_key(k): None if v is None else b"%d" % v for k, v in rows.items()})


def commit(bench: TableBench) -> None:
    bench.cut()
    bench.flush()


def write_and_fail(bench: TableBench) -> None:
    with bench.event():
        bench.table["a"] = 3
        msg = "after the write"
        raise ArithmeticError(msg)


@pytest.fixture
def bench() -> TableBench:
    return TableBench()


def test_a_staged_row_is_read_in_place_of_what_memory_held(bench: TableBench) -> None:
    shard = bench.table.shards[0]
    with bench.event() as scope:
        bench.table["a"] = 1
    scope.let_go()
    commit(bench)
    assert bench.table["a"] == 1
    staged(shard, a=2)
    assert bench.table["a"] == 2
    assert dict(bench.table.items()) == {"a": 2}
    commit(bench)
    assert bench.table["a"] == 2


def test_the_later_of_a_write_and_a_staged_row_is_committed(bench: TableBench) -> None:
    shard = bench.table.shards[0]
    with bench.event() as scope:
        bench.table["a"] = bench.table["b"] = bench.table["c"] = 1
    scope.let_go()
    staged(shard, a=2, b=2)
    with bench.event() as scope:
        del bench.table["b"]
    scope.let_go()
    assert shard.take() == {encode_key("a"): b"2", encode_key("b"): None, encode_key("c"): b"1"}


def test_an_event_that_is_undone_leaves_the_staged_row(bench: TableBench) -> None:
    staged(bench.table.shards[0], a=2)
    with pytest.raises(ArithmeticError):
        write_and_fail(bench)
    assert bench.table["a"] == 2
    assert bench.table.shards[0].take() == {encode_key("a"): b"2"}


@given(st.lists(KEYS, max_size=6), st.integers(-9, 9) | st.just(1 << 63))
def test_keys_that_are_encoded_at_once_are_those_encoded_singly(keys: list[Any], end: int) -> None:
    assert encode_all_under(_HEAD, keys) == [encode_under(_HEAD, key) for key in keys]
    whole = [(*(key if isinstance(key, tuple) else (key,)), end) for key in keys]
    assert encode_with_last(keys, [end] * len(keys)) == [encode_key(key) for key in whole]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "null", "line\nbreak\r"]),
            st.none() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=300),
        ),
        max_size=4,
    )
)
def test_lines_are_what_is_written_singly(values: list[Any]) -> None:
    write = json_writer(None)
    try:
        expected = [write(value) for value in values]
    except ValueError:
        with pytest.raises(ValueError, match="JSON has no"):
            json_lines(values)
        return
    assert json_lines(values) == expected
    assert [msgspec.json.decode(line) for line in expected] == values
