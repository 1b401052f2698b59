"""Windowed tables: what events write, keys, and what is refused."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import pytest
from support.windowed import WindowedBench

from streamapp.errors import ConfigError, EncodeError, InputError, UsageError
from streamapp.records import Record
from streamapp.state.rows import row_codec
from streamapp.state.scope import EventScope, Outcome, current_scope
from streamapp.state.table import Table, TableSpec
from streamapp.state.windowed_set import WindowSet


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


def test_between_events_nothing_is_written_not_even_what_is_over() -> None:
    bench = WindowedBench(10, 10, expires=1)
    left = current_scope.set(EventScope())
    with pytest.raises(UsageError, match="outside of an event"):
        bench.windowed.relative_to(-1)["a"] = 1
    current_scope.reset(left)


def test_events_that_meet_count_each_window_of_both() -> None:
    bench = WindowedBench(10, 5)
    outcomes = []
    for time in (7, 8):
        with bench.record(time) as one:
            bench.windowed["a"] += 1
            with bench.record(time) as other:
                bench.windowed["a"] += 1
                outcomes.append(other.finish())
            outcomes.append(one.finish())
    # The second comes while the first is in hand: the first is parked, and then must run again.
    assert outcomes == [Outcome.DONE, Outcome.CONFLICT] * 2
    assert rows(bench) == {("a", 0): 2, ("a", 5): 2}


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
