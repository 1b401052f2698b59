"""Aligned windows: what a reader would ask, case by case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.operator_driver import DictState, Driver, rows_of, watermarks

from streamapp.core.aggregates import AggregateSet, constructors
from streamapp.core.rows import Rows
from streamapp.core.times import COLUMN_LIMIT_MS, FOREVER_MS, NEVER_MS
from streamapp.core.windows import Emission, Hopping, Lateness, Tumbling
from streamapp.errors import StateError
from streamapp.operators.aligned import AlignedWindows
from streamapp.operators.aligned_place import MANY
from streamapp.operators.aligned_results import PIECE
from streamapp.operators.operator import AT_ONCE, RowError
from streamapp.operators.results import row_type
from streamapp.serde.ordered_keys import decode_key

COUNT_SUM = AggregateSet({"n": constructors.count(), "total": constructors.sum("amount")})
ROW = row_type("unit", COUNT_SUM.names)
Spec = Tumbling | Hopping
CLOSE = Emission()


def operator(spec: Spec, emission: Emission = CLOSE, state: Any = None) -> AlignedWindows:
    return AlignedWindows(spec, COUNT_SUM, ROW, emission, state or DictState())


def rows_at(*times: int, marks: tuple[int, ...] | None = None, key: object = "k") -> Rows:
    rows = rows_of([(key, time, {"amount": time}) for time in times], 0)
    return rows if marks is None else replace(rows, marks=marks)


def said(rows: Rows) -> list[tuple[Any, ...]]:
    values: list[Any] = [*rows.values]
    return [(row.kind, row.start, row.end, row.n, row.total) for row in values]


def test_a_tumbling_window_fires_when_the_watermark_reaches_its_last_instant() -> None:
    windows = operator(Tumbling(10))
    windows.process(rows_at(0, 9, marks=(NEVER_MS, NEVER_MS)))
    assert windows.next_due_ms == 9
    assert said(windows.advance(8)) == []
    fired = windows.advance(9)
    assert said(fired) == [("final", 0, 10, 2, 9)]
    assert fired.times == [9]
    assert windows.next_due_ms == FOREVER_MS
    assert windows.size == 0


def test_a_hopping_record_is_in_every_window_over_it() -> None:
    windows = operator(Hopping(6, 3))
    windows.process(rows_at(4, marks=(NEVER_MS,)))
    assert said(windows.advance(20)) == [("final", 0, 6, 1, 4), ("final", 3, 9, 1, 4)]


def test_a_late_record_that_is_allowed_fires_its_window_again() -> None:
    windows = operator(Tumbling(10, late=Lateness(5)))
    windows.process(rows_at(1, marks=(NEVER_MS,)))
    windows.advance(12)
    late = rows_at(2, marks=(13,))
    assert list(windows.dues(late) or ()) == [AT_ONCE]
    windows.process(late)
    assert windows.next_due_ms == AT_ONCE
    assert said(windows.advance(13)) == [("late", 0, 10, 2, 3)]
    assert windows.next_due_ms == 14  # the clean-up
    assert not windows.late


@pytest.mark.parametrize(("mark", "count"), [(13, 0), (14, 1)])
def test_a_record_is_late_when_the_clean_up_time_is_its_mark(mark: int, count: int) -> None:
    windows = operator(Tumbling(10, late=Lateness(5)))
    windows.process(rows_at(2, marks=(mark,)))
    assert windows.late["dropped"] == count


def test_late_records_go_to_the_side_as_they_came() -> None:
    windows = operator(Tumbling(10, late=Lateness(0, "side")))
    windows.process(rows_at(25, 3, marks=(NEVER_MS, 24)))
    late = windows.take_late()
    assert (late.times, late.values, late.marks, late.origins) == ([3], [{"amount": 3}], [24], [1])
    assert not len(windows.take_late())
    assert windows.late == {"side": 1}


def test_a_record_late_for_some_windows_counts_in_the_others_and_corrects_the_closed() -> None:
    windows = operator(Hopping(6, 3, late=Lateness(0, "correct")))
    brought = windows.process(rows_at(4, marks=(6,)))
    assert said(brought) == [("correction", 0, 6, 1, 4)]
    assert brought.marks == [6]
    assert said(windows.advance(8)) == [("final", 3, 9, 1, 4)]
    assert windows.late == {"corrected": 1}


def test_a_record_between_two_windows_is_in_none_and_not_late() -> None:
    windows = operator(Hopping(2, 5))
    windows.process(rows_at(3, marks=(50,)))
    assert not windows.late
    assert windows.next_due_ms == FOREVER_MS


def test_updates_come_with_a_commit_for_what_has_changed() -> None:
    windows = operator(Tumbling(10), Emission("update"))
    windows.process(rows_at(1, 2, marks=(NEVER_MS, NEVER_MS)))
    assert said(windows.on_commit()) == [("update", 0, 10, 2, 3)]
    assert said(windows.on_commit()) == []
    assert said(windows.advance(9)) == [("final", 0, 10, 2, 3)]


def test_updates_come_at_multiples_of_the_watermark() -> None:
    windows = operator(Tumbling(100), Emission("every", 10))
    windows.process(rows_at(1, marks=(3,)))
    assert windows.next_due_ms == 10
    assert said(windows.advance(25)) == [("update", 0, 100, 1, 1)]
    assert windows.next_due_ms == 99


def test_an_update_that_was_due_survives_a_restart_and_one_that_was_said_is_not_repeated() -> None:
    state = DictState()
    first = operator(Tumbling(100), Emission("every", 10), state)
    first.process(rows_at(1, marks=(3,)))
    state.apply(first)
    early, late = (operator(Tumbling(100), Emission("every", 10), state) for _ in range(2))
    early.restore(9)
    late.restore(10)
    assert said(early.advance(10)) == [("update", 0, 100, 1, 1)]
    assert late.next_due_ms == 99


def test_results_come_by_end_and_key() -> None:
    windows = operator(Tumbling(10))
    for key in ("b", "a", 2, ("a", 1), 1, b"a"):
        windows.process(rows_at(11, 1, marks=(NEVER_MS, NEVER_MS), key=key))
    values: list[Any] = [*windows.advance(50).values]
    order = [1, 2, b"a", "a", "b", ("a", 1)]
    assert [(row.start, row.key) for row in values] == [
        (start, key) for start in (0, 10) for key in order
    ]


def test_state_is_in_the_order_of_time_and_goes_with_the_clean_up() -> None:
    state = DictState()
    windows = operator(Tumbling(10), state=state)
    for key in ("k", ("k", 0)):
        windows.process(rows_at(-5, 15, marks=(NEVER_MS, NEVER_MS), key=key))
    assert windows.changed == 4
    assert state.apply(windows) == 4
    assert windows.changed == 0
    keys = [decode_key(raw) for raw in sorted(state.rows)]
    assert keys == [(-10, "k"), (-10, ("k", 0)), (10, "k"), (10, ("k", 0))]
    windows.advance(-1)
    state.apply(windows)
    assert [decode_key(raw)[0] for raw in sorted(state.rows)] == [10, 10]


def test_a_window_that_came_and_went_between_two_drains_leaves_nothing() -> None:
    windows = operator(Tumbling(10))
    windows.process(rows_at(1, marks=(NEVER_MS,)))
    windows.advance(9)
    assert windows.drain() == {}


def test_views_read_rows_without_an_operator() -> None:
    state = DictState()
    windows = operator(Hopping(6, 3), state=state)
    windows.process(rows_at(4, marks=(NEVER_MS,), key=("a", 1)))
    state.apply(windows)
    view = AlignedWindows.viewer(Hopping(6, 3), COUNT_SUM)
    ((raw, data),) = state.rows.items()
    assert view(raw, data) == (("a", 1), {"start": 3, "end": 6, "n": 1, "total": 4})


def test_state_of_another_format_is_refused() -> None:
    state = DictState()
    windows = operator(Tumbling(10), state=state)
    windows.process(rows_at(1, marks=(NEVER_MS,)))
    state.apply(windows)
    state.rows = {key: row.replace(b"[2,", b"[9,", 1) for key, row in state.rows.items()}
    again = operator(Tumbling(10), state=state)
    again.restore(NEVER_MS)
    with pytest.raises(StateError, match="format 9"):
        again.advance(9)


def test_rows_before_a_bad_one_count() -> None:
    windows = operator(Tumbling(10))
    rows = rows_of([("k", 1, {"amount": 5}), ("k", 2, {"amount": "much"}), ("k", 3, {})], 0)
    with pytest.raises(RowError) as failed:
        windows.process(replace(rows, marks=(NEVER_MS,) * 3))
    assert failed.value.origin == 1
    assert failed.value.__cause__ is not None
    assert said(windows.advance(9)) == [("final", 0, 10, 1, 5)]


@pytest.mark.parametrize("far", [NEVER_MS + 10, FOREVER_MS - 1])
def test_times_at_the_ends_of_time_are_worked_on_one_by_one(far: int) -> None:
    windows = operator(Tumbling(10))
    windows.process(rows_at(*[far] * MANY, marks=(NEVER_MS,) * MANY))
    fired = windows.advance(FOREVER_MS)
    ((kind, start, end, n, total),) = said(fired)
    assert (kind, n, total) == ("final", MANY, far * MANY)
    assert NEVER_MS <= start <= far <= end <= FOREVER_MS
    assert windows.next_due_ms == FOREVER_MS


def test_columns_take_times_up_to_their_limit() -> None:
    windows = operator(Hopping(20, 10))
    times = [COLUMN_LIMIT_MS, -COLUMN_LIMIT_MS] * MANY
    windows.process(rows_at(*times, marks=(NEVER_MS,) * len(times)))
    assert [row[3] for row in said(windows.advance(FOREVER_MS))] == [MANY] * 4


def test_trimmed_rows_are_read_again_one_by_one_and_whole() -> None:
    state = DictState()
    driver = Driver(operator(Tumbling(1_000), state=state))
    records = [(key, 1, {"amount": key}) for key in range(2 * MANY)]
    driver.run(rows_of(records, 0), NEVER_MS)
    driver.commit(state)
    driver.operator.trim(MANY)
    assert driver.operator.size == MANY
    driver.run(rows_of(records[:MANY], 0), 0)
    driver.run(rows_of(records[MANY : MANY + 9], 0), watermarks(records, 0)[-1])
    driver.advance(1_000)
    rows: list[Any] = driver.out
    assert [(row.key, row.n) for row in rows] == [
        (key, 2 if key < MANY + 9 else 1) for key in range(2 * MANY)
    ]


def test_rows_are_not_forgotten_before_they_were_drained() -> None:
    windows = operator(Tumbling(1_000))
    windows.process(rows_of([(key, 1, {"amount": 1}) for key in range(MANY)], 0))
    windows.process(rows_at(2, marks=(NEVER_MS,), key="few"))
    windows.trim(0)
    assert windows.size == MANY + 1


@pytest.mark.parametrize("spec", [Tumbling(10), Hopping(10, 5)])
def test_what_closes_at_once_leaves_in_pieces(spec: Spec) -> None:
    windows = operator(spec)
    keys = range(2 * PIECE + 3)
    windows.process(rows_of([(key, 6, {"amount": key}) for key in keys], 0))
    pieces: list[list[Any]] = []
    while windows.next_due_ms <= 9:
        pieces.append([*windows.advance(9).values])
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, 3]
    assert [row.key for piece in pieces for row in piece] == [*keys]
    assert not len(windows.advance(9))
