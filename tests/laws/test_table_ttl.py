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


class _Clocks:
    """Event time of a bench's partitions and a clock that goes on by ``cost_s`` at each look."""

    def __init__(self, cost_s: float = 0.0) -> None:
        self.now_ms = 0
        self.now_s = 0.0
        self._cost_s = cost_s

    def event_time(self, *_: object) -> int:
        self.now_s += self._cost_s
        return self.now_ms

    def clock(self) -> float:
        return self.now_s


@pytest.mark.parametrize("rows", [3, 250, 251, 1_200])
def test_sweep_goes_through_all_rows_however_many(rows: int) -> None:
    bench, clocks = TableBench(ttl_ms=160), _Clocks()
    with bench.event(now_ms=0):
        for key in range(rows):
            bench.table[key] = key
    sweeper = Sweeper([bench.table], clocks.event_time, clocks.clock)
    clocks.now_ms = 150
    assert [sweeper.step() for _ in range(6)] == [0] * 6
    clocks.now_ms = 160
    steps = [sweeper.step() for _ in range(6)]
    assert sum(steps) == rows
    assert max(steps) <= 250


def test_sweep_looks_again_only_after_a_part_of_the_time_to_live() -> None:
    bench, clocks = TableBench(ttl_ms=160), _Clocks()
    with bench.event(now_ms=5):
        bench.table["k"] = 1
    sweeper = Sweeper([bench.table], clocks.event_time, clocks.clock)
    deleted = []
    for clocks.now_ms in range(200):
        deleted += [clocks.now_ms] * sweeper.step()
    # Rounds begin at multiples of 10; the row's life ends at 165.
    assert deleted == [170]


def test_sweep_takes_a_small_part_of_the_time() -> None:
    bench, clocks = TableBench(ttl_ms=160), _Clocks(cost_s=0.002)
    sweeper = Sweeper([bench.table], clocks.event_time, clocks.clock)
    looks = 0
    for step in range(2_000):
        # What has passed since the start without sweeping: a millisecond each.
        clocks.now_s += 0.001
        clocks.now_ms = 100 * step
        before = clocks.now_s
        sweeper.step()
        looks += clocks.now_s > before
    assert looks * 0.002 == pytest.approx(clocks.now_s / 20, rel=0.1)


def test_sweep_leaves_no_shard_behind_when_time_is_short() -> None:
    bench, clocks = TableBench(ttl_ms=160, partitions=3), _Clocks(cost_s=1.0)
    for partition in range(3):
        with bench.event(now_ms=0, partition=partition):
            bench.table["k"] = partition
    sweeper = Sweeper([bench.table], clocks.event_time, clocks.clock)
    clocks.now_ms = 1_000
    for left in (2, 1, 0):
        assert sweeper.step() == 1
        assert sum(1 for _ in bench.table.items()) == left
        clocks.now_s += 100


def test_row_of_a_changelog_is_decoded_without_its_time() -> None:
    bench = TableBench(ttl_ms=100)
    with bench.event(now_ms=7):
        bench.table["k"] = [1]
    (changes,) = [shard.take() for shard in bench.table.shards.values()]
    rows = [bench.table.logged(0, raw, data or b"") for raw, data in changes.items()]
    assert rows == [("k", [1])]
