"""Windowed tables: the idioms, what they are relative to, expiry, keys, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import faust
import pytest
from support.windowed import WindowedBench

from streamapp.errors import ConfigError, EncodeError, InputError, UsageError
from streamapp.records import Record
from streamapp.state.rows import row_codec
from streamapp.state.table import Table, TableSpec
from streamapp.state.windowed_set import WindowSet


class Visit(Record):
    at: Any
    page: str = ""


class FaustVisit(faust.Record):
    at: float


class Place(Record, frozen=True):
    city: str


class Color(StrEnum):
    RED = "red"


def plain(**options: Any) -> Table:
    spec = TableSpec("views", **options)
    return Table(spec, row_codec(is_timed=spec.ttl_ms is not None))


def rows(bench: WindowedBench) -> dict[Any, Any]:
    return dict(bench.table.items())


def fail(bench: WindowedBench) -> None:
    bench.windowed["a"] += 1
    bench.windowed["b"] += 1
    raise ZeroDivisionError


# --- writing -------------------------------------------------------------------------------------


def test_event_changes_every_window_that_its_time_lies_in() -> None:
    bench = WindowedBench(10, 4)
    with bench.record(13):
        bench.windowed["a"] += 1
    with bench.record(14):
        bench.windowed["a"] += 10
    assert rows(bench) == {("a", 4): 1, ("a", 8): 11, ("a", 12): 11}


@pytest.mark.parametrize(
    ("time", "starts"), [(-1, [-10]), (0, [0]), (9, [0]), (10, [10]), (-10, [-10]), (-11, [-20])]
)
def test_tumbling_windows_divide_time_also_before_1970(time: int, starts: list[int]) -> None:
    bench = WindowedBench(10, 10)
    with bench.record(time):
        bench.windowed["a"] = 1
    assert rows(bench) == {("a", start): 1 for start in starts}


def test_every_operator_changes_the_windows() -> None:
    bench = WindowedBench(10, 5)
    with bench.record(5):
        table = bench.windowed
        table["a"] = 7
        table["a"] += 5
        table["a"] -= 2
        table["a"] *= 3
        table["a"] //= 4
        table["a"] **= 2
        table["a"] %= 40
        table["a"] <<= 3
        table["a"] >>= 1
        table["a"] |= 1
        table["a"] &= 61
        table["a"] ^= 2
        table["a"] /= 2
        table["a"].apply(max, 3.0)
    value = (((((((((7 + 5 - 2) * 3 // 4) ** 2) % 40) << 3) >> 1) | 1) & 61) ^ 2) / 2
    assert rows(bench) == {("a", 0): value, ("a", 5): value}


def test_values_that_can_change_are_copies() -> None:
    bench = WindowedBench(10, 5, default=list)
    with bench.record(5):
        bench.windowed["a"] += ["x"]
        bench.windowed["a"].current().append("y")
    assert rows(bench) == {("a", 0): ["x"], ("a", 5): ["x"]}


def test_delete_takes_the_windows_of_the_event() -> None:
    bench = WindowedBench(10, 5)
    for time in (0, 7):
        with bench.record(time):
            bench.windowed["a"] += 1
    with bench.record(7):
        del bench.windowed["a"]
        assert "a" not in bench.windowed
        with pytest.raises(KeyError):
            del bench.windowed["a"]
    assert rows(bench) == {("a", -5): 1}


def test_undone_event_leaves_no_window() -> None:
    bench = WindowedBench(10, 5)
    with bench.record(7):
        bench.windowed["a"] += 1
    with pytest.raises(ZeroDivisionError), bench.record(8):
        fail(bench)
    assert rows(bench) == {("a", 0): 1, ("a", 5): 1}


def test_change_that_fails_in_one_window_changes_none() -> None:
    bench = WindowedBench(10, 5)
    with bench.record(2):
        bench.windowed["a"] = 1
    with bench.record(7):
        bench.windowed["b"] = 2
        with pytest.raises(ZeroDivisionError):
            bench.windowed["a"].apply(lambda old, new: new // (1 - old if old else old), 1)
    assert ("a", 5) not in rows(bench)
    assert rows(bench)["a", 0] == 1


def test_without_a_default_an_absent_window_is_a_key_error_of_the_key() -> None:
    bench = WindowedBench(10, 5, default=None)
    with bench.record(7):
        with pytest.raises(KeyError, match=r"^'a'$"):
            bench.windowed["a"] += 1
        with pytest.raises(KeyError, match=r"^'a'$"):
            bench.windowed["a"].current()


# --- reading -------------------------------------------------------------------------------------


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


# --- expiry --------------------------------------------------------------------------------------


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


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "key_type"),
    [
        ("k", str), ("k", Any), (7, int), (b"k", bytes), (1.5, float), (True, bool), (None, Any),
        (("a", 1), tuple[str, int]), (("a", 1, None), Any), (Place("Rome"), Place),
        (date(2024, 1, 1), date), (Color.RED, Color), ("k", Color), ("", str), ("\x00", Any),
    ],
)  # fmt: skip
def test_keys_of_every_kind_come_back(key: Any, key_type: Any) -> None:
    bench = WindowedBench(10, 5, key_type=key_type)
    with bench.record(7):
        bench.windowed[key] += 1
    bench.reopen()
    with bench.record(7):
        bench.windowed[key] += 1
        (found,) = bench.windowed.keys()
    assert (found, type(found)) == (key, type(key))
    assert [value for _, value in bench.windowed[key].windows()] == [2, 2]


def test_windows_of_a_key_are_not_those_of_a_longer_one() -> None:
    bench = WindowedBench(10, 10)
    for key in (("a", "b"), ("a", "b", 5), "a", ("a", 5)):
        with bench.record(15):
            bench.windowed[key] += 1
    for key in (("a", "b"), "a", ("a", 5)):
        assert list(bench.windowed[key].windows()) == [((10, 20), 1)]


@pytest.mark.parametrize("key", [(), ("a",)])
def test_tuples_that_could_be_taken_for_another_key_are_refused(key: Any) -> None:
    bench = WindowedBench(10, 10)
    with bench.record(1), pytest.raises(InputError, match="two parts"):
        bench.windowed[key] = 1


# --- what is refused -----------------------------------------------------------------------------


def test_windows_of_another_key_cannot_be_assigned() -> None:
    bench = WindowedBench(10, 10)
    with bench.record(1):
        for other in (bench.windowed["b"], WindowedBench(10, 10).windowed["a"]):
            with pytest.raises(UsageError, match="another key"):
                bench.windowed["a"] = other


def test_value_that_cannot_be_stored_is_refused() -> None:
    bench = WindowedBench(10, 10)
    with bench.record(1), pytest.raises(EncodeError, match="Table t"):
        bench.windowed["a"] = float("nan")


@pytest.mark.parametrize("row", ["a", ("a",), ("a", 3), ("a", 10.0), ("a", True)])
def test_the_table_below_takes_rows_of_windows_only(row: Any) -> None:
    bench = WindowedBench(10, 10)
    with bench.record(1):
        with pytest.raises(UsageError, match="no row"):
            bench.windowed.table[row] = 1
        bench.windowed.table["a", 10] = 1


@pytest.mark.parametrize(
    ("size", "step", "expires", "text"),
    [
        (0, 0, None, "size=0"),
        (1, 0, None, "step=0"),
        (1, 1, 0, "expires=0"),
        (0.0005, 1, None, r"size of its windows: 0\.0005 is not a whole"),
        (1, "0.5ms", None, "step of its windows"),
        (1, 1, timedelta(microseconds=1), "expires of its windows"),
        (-1, 1, None, "negative"),
        ("soon", 1, None, "'soon' is not a duration"),
        (None, 1, None, "None is not a duration"),
        (1, 2, None, "step=2 is longer than size=1"),
        ("1d", "1ms", None, "86400000 windows"),
    ],
)
def test_wrong_windows_are_refused(size: Any, step: Any, expires: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        plain().hopping(size, step, expires)
    assert "views" in caught.value.message


def test_windows_are_declared_once_and_without_a_ttl() -> None:
    table = plain()
    table.tumbling(60, expires=timedelta(hours=1), key_index=True)
    with pytest.raises(ConfigError, match="windows already"):
        table.hopping(60, 1)
    with pytest.raises(ConfigError, match="a ttl already"):
        plain(ttl_ms=1).tumbling(1)


@pytest.mark.parametrize("field", [7, None])
def test_what_is_no_field_is_refused(field: Any) -> None:
    with pytest.raises(UsageError, match="relative to"):
        plain().tumbling(1).relative_to_field(field)
    with pytest.raises(UsageError, match="unit"):
        plain().tumbling(1).relative_to_field("at", "h")  # type: ignore[arg-type]


def test_it_says_what_it_is() -> None:
    table = plain(help="By page").tumbling("1m", "1h")
    assert (table.name, table.help) == ("views", "By page")
    assert (table.grid.size_ms, table.grid.step_ms, table.grid.expires_ms) == (
        60_000,
        60_000,
        3_600_000,
    )
    assert repr(table["a"]) == "<WindowSet 'a' of views>"
    assert "views" in repr(table)
    assert isinstance(table["a"], WindowSet)
    assert (table["a"].key, table["a"].table) == ("a", table.table)
