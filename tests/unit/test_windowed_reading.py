"""Windowed tables: which window is read, of one key and of many, and what it is relative to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import faust
import pytest
from support.windowed import WindowedBench

from streamapp.errors import InputError, UsageError
from streamapp.records import Record


class Visit(Record):
    at: Any
    page: str = ""


class FaustVisit(faust.Record):
    at: float


def rows(bench: WindowedBench) -> dict[Any, Any]:
    return dict(bench.table.items())


def test_the_window_read_is_the_last_to_open() -> None:
    bench = WindowedBench(10_000, 4_000)
    for time in (3_000, 5_000):
        with bench.record(time):
            bench.windowed["a"] += time
    bench.clock_ms = 3_999
    with bench.record(7_999):
        table = bench.windowed
        assert table["a"].current() == 5_000
        assert table["a"].value() == 5_000
        assert table["a"].now() == 8_000
        assert table["a"].delta(3) == 5_000
        assert table["a"].delta("3999ms") == 5_000
        assert table["a"].delta(timedelta(seconds=4)) == 8_000
        assert table["a"].at(2.5) == 8_000
        assert table["a"].at(8) == 0
        assert [start for (start, _), _ in table["a"].windows()] == [-4_000, 0, 4_000]


def test_relative_to_now_stream_field_and_a_moment() -> None:
    bench = WindowedBench(10_000, 10_000)
    for time in (5_000, 15_000, 25_000, 35_000):
        with bench.record(time):
            bench.windowed["a"] = time
    bench.clock_ms = 25_000
    table = bench.windowed
    with bench.record(15_000, value=Visit(9.999)):
        assert table["a"].value() == 15_000
        assert table.relative_to_now()["a"].value() == 25_000
        assert table.relative_to_stream()["a"].value() == 35_000
        assert table.relative_to_field(Visit.at)["a"].value() == 5_000
        assert table.relative_to(35)["a"].value() == 35_000
        assert table.relative_to_field(Visit.at)["a"].current() == 15_000


def test_writes_go_by_the_event_the_field_or_the_moment_but_never_by_the_clock() -> None:
    bench = WindowedBench(10, 10)
    bench.clock_ms = 77
    table = bench.windowed
    with bench.record(40):
        pass
    with bench.record(15, value={"at": 0.025}):
        table.relative_to_now()["now"] = 1
        table.relative_to_stream()["stream"] = 1
        table.relative_to_field("at")["field"] += 1
        table.relative_to(0.031)["moment"] = 1
    assert rows(bench) == {
        ("now", 10): 1,
        ("stream", 10): 1,
        ("field", 20): 1,
        ("moment", 30): 1,
    }


@pytest.mark.parametrize(
    ("field", "value", "unit"),
    [
        (Visit.at, Visit(1.009), "s"),
        (FaustVisit.at, FaustVisit(at=1.009), "s"),
        ("at", {"at": "1970-01-01T00:00:01.009Z"}, "s"),
        ("at", Visit(datetime(1970, 1, 1, 0, 0, 1, 9_999, tzinfo=UTC)), "s"),
        (lambda value: value["visit"].at, {"visit": Visit(1_009)}, "ms"),
    ],
)
def test_field_holds_a_moment_in_any_form(field: Any, value: object, unit: Any) -> None:
    bench = WindowedBench(1, 1)
    with bench.record(50, value=value):
        bench.windowed.relative_to_field(field, unit)["a"] = 1
    assert rows(bench) == {("a", 1_009): 1}


@pytest.mark.parametrize(
    "value", [Visit(None), Visit(float("nan")), Visit("soon"), Visit(at=True), {"other": 1}, None,
              Visit(datetime(2024, 1, 1))]  # noqa: DTZ001 - a time without a zone is refused
)  # fmt: skip
def test_field_without_a_moment_is_bad_input(value: object) -> None:
    bench = WindowedBench(1, 1)
    with bench.record(50, value=value), pytest.raises(InputError):
        bench.windowed.relative_to_field("at")["a"] = 1


def test_many_keys_of_one_window() -> None:
    bench = WindowedBench(10, 10)
    for time, key in ((5, "b"), (6, "a"), (15, "c")):
        with bench.record(time):
            bench.windowed[key] = time
    bench.clock_ms = 19
    with bench.record(4):
        table = bench.windowed
        assert list(table) == list(table.keys()) == ["a", "b"]
        assert list(table.values()) == [6, 5]
        assert list(table.items().current()) == [("a", 6), ("b", 5)]
        assert list(table.items().now()) == [("c", 15)]
        assert list(table.relative_to_stream().keys()) == ["c"]
        assert list(table.keys().delta("4ms")) == ["a", "b"]
        assert list(table.keys().delta("5ms")) == []
        assert list(table.values().at(0.01)) == [15]
        assert (len(table), len(table.keys()), len(table.relative_to_now())) == (2, 2, 1)
        assert "b" in table
        assert "c" not in table
        assert "c" in table.relative_to_now()


def test_outside_of_events_reading_spans_the_partitions() -> None:
    bench = WindowedBench(10, 10, partitions=2)
    for time, partition, key in ((5, 0, "a"), (15, 1, "b"), (6, 1, "c")):
        with bench.record(time, partition):
            bench.windowed[key] += time
    bench.clock_ms = 7
    table = bench.windowed
    assert (table["a"].now(), table["c"].now(), table["b"].now()) == (5, 6, 0)
    assert table["b"].at(0.012) == 15
    assert list(table.items().now()) == [("a", 5), ("c", 6)]
    assert list(table.relative_to_now()) == ["a", "c"]
    bench.table.now_ms = lambda partition: [5, 15][partition]
    assert list(table.relative_to_stream().items()) == [("a", 5), ("b", 15)]
    assert table.relative_to_stream()["b"].value() == 15
    assert table.relative_to_stream()["c"].value() == 0
    assert "c" not in table.relative_to_stream()


def test_outside_of_events_there_is_no_time_of_the_event() -> None:
    table = WindowedBench(10, 10).windowed
    for act in (
        table["a"].current, table["a"].value, lambda: table["a"].delta(1), lambda: list(table),
        table.items().current, lambda: "a" in table, lambda: table.__setitem__("a", 1),
        lambda: table["a"].apply(max, 1), lambda: table.__delitem__("a"),
        lambda: table.relative_to_now().__setitem__("a", 1),
        lambda: table.relative_to(1).__setitem__("a", 1),
        table.relative_to_field("at")["a"].value,
    ):  # fmt: skip
        with pytest.raises(UsageError, match="outside of an event"):
            act()
