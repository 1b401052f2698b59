"""Windowed tables: how long a window lives."""

from __future__ import annotations

from typing import Any

import pytest
from support.windowed import WindowedBench


def rows(bench: WindowedBench) -> dict[Any, Any]:
    return dict(bench.table.items())


@pytest.mark.parametrize("is_reopened", [False, True])
def test_window_expires_in_event_time_after_its_end(is_reopened: bool) -> None:
    bench = WindowedBench(10, 10, expires=5)
    with bench.record(7):
        bench.windowed["a"] += 1
    with bench.record(11):
        bench.windowed["a"] += 1
    if is_reopened:
        bench.reopen()
    with bench.record(14):
        assert bench.windowed["a"].at(0) == 1
    bench.clock_ms = 1 << 50
    assert bench.table.sweep(0, 14, b"", 10) == (0, b"")
    with bench.record(15):
        assert bench.windowed["a"].at(0) == 0
        assert [window for window, _ in bench.windowed["a"].windows()] == [(10, 20)]
    assert bench.table.sweep(0, 15, b"", 10) == (1, b"")
    bench.reopen()
    assert len(list(bench.store.scan(b"", b"\xff" * 9))) == 1


def test_late_event_writes_no_window_that_is_over() -> None:
    bench = WindowedBench(10, 5, expires=5)
    with bench.record(20):
        pass
    with bench.record(7):
        bench.windowed["a"] += 1
        assert bench.windowed["a"].current() == 0
    with bench.record(9):
        bench.windowed["b"] = 1
    (changes,) = [shard.take() for shard in bench.table.shards.values()]
    assert changes == {}
    with bench.record(10):
        bench.windowed["a"] += 1
    assert rows(bench) == {("a", 10): 1}


def test_write_does_not_lengthen_the_life_of_a_window() -> None:
    bench = WindowedBench(10, 10, expires=10)
    for time in (1, 19, 2):
        with bench.record(time):
            bench.windowed["a"] += 1
    bench.now_ms = 20
    assert rows(bench) == {("a", 10): 1}


def test_windows_without_expires_stay() -> None:
    bench = WindowedBench(10, 10)
    with bench.record(1):
        bench.windowed["a"] += 1
    bench.now_ms = 1 << 61
    assert rows(bench) == {("a", 0): 1}
