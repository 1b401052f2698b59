"""Rows with a time to live: invisible after it, and swept, in event time."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Any

import pytest
from support.tables import TableBench

from streamapp.engine.sweep import Sweeper
from streamapp.records import Record


class Total(Record):
    user: str
    amount: float = 0.0


class Color(StrEnum):
    RED = "red"


# --- time to live --------------------------------------------------------------------------------


@pytest.mark.parametrize("cache_bytes", [1 << 20, 700])
def test_row_lives_for_its_time_since_the_last_write_in_event_time(cache_bytes: int) -> None:
    bench = TableBench(ttl_ms=100, cache_bytes=cache_bytes)
    with bench.event(now_ms=1_000):
        bench.table["a"] = 1
        bench.table["b"] = [1]
    with bench.event(now_ms=1_050):
        bench.table["b"] = [2]
    with bench.event(now_ms=1_099):
        assert bench.table["a"] == 1
    bench.reopen()
    with bench.event(now_ms=1_100):
        assert "a" not in bench.table
        assert bench.table.get("a") is None
        assert list(bench.table.items()) == [("b", [2])]
        with pytest.raises(KeyError):
            del bench.table["a"]
    assert list(bench.table.items()) == [("b", [2])]
    bench.now_ms = 1_150
    assert list(bench.table.items()) == []
    assert "b" not in bench.table


def test_time_before_the_first_record_is_stored() -> None:
    bench = TableBench(ttl_ms=100)
    bench.now_ms = -(1 << 62)
    with bench.event():
        bench.table["a"] = 1
        assert bench.table["a"] == 1


class Point(Record, frozen=True):
    x: int


@pytest.mark.parametrize("key", ["k", 7, b"k", ("a", 1), 1.5, None, Color.RED, date(2024, 1, 1)])
def test_sweep_deletes_the_expired_rows_of_every_kind_of_key(key: Any) -> None:
    bench = TableBench(ttl_ms=100)
    with bench.event(now_ms=0):
        bench.table[key] = 1
    with bench.event(now_ms=50):
        bench.table["later"] = 2
    bench.cut()
    bench.flush()
    sweeper = Sweeper([bench.table], lambda _table, _partition: 100)
    assert sweeper.step() == 1
    assert sweeper.step() == 0
    bench.reopen()
    assert [value for _, value in bench.store.scan(b"", b"\xff")] == [
        (50).to_bytes(8, "big") + b"2"
    ]


def test_sweep_leaves_a_shard_with_an_event_in_hand_alone() -> None:
    bench = TableBench(ttl_ms=100)
    with bench.event(now_ms=0):
        bench.table["k"] = 1
    with bench.event(now_ms=500):
        bench.table["l"] = 1
        assert bench.table.sweep(0, 500, b"", 10) == (0, b"")
    assert bench.table.sweep(0, 500, b"", 10) == (1, b"")


def test_row_of_a_changelog_is_decoded_without_its_time() -> None:
    bench = TableBench(ttl_ms=100)
    with bench.event(now_ms=7):
        bench.table["k"] = [1]
    (changes,) = [shard.take() for shard in bench.table.shards.values()]
    assert [bench.table.decode_row(data or b"") for data in changes.values()] == [[1]]
