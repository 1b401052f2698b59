"""Count windows and global windows against lists of all records of a key."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.keyed_driver import END_MS, Run
from support.operator_driver import rows_of, watermarks

from streamapp.core.aggregates import AggregateSet
from streamapp.core.aggregates.constructors import avg, count
from streamapp.core.aggregates.constructors import sum as sum_of
from streamapp.core.rows import Rows
from streamapp.core.windows import Count, Emission, Global
from streamapp.operators.counting import CountWindows, GlobalWindow
from streamapp.operators.operator import Operator, StateView
from streamapp.operators.results import row_type

_SET = AggregateSet({"n": count(), "total": sum_of("v"), "mean": avg("v")})
_ROW = row_type("counted", _SET.names)
_VALUES = st.sampled_from([0.1, 0.2, 0.7, 1e16, -1e16, 3])
_RECORDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-30, 30), _VALUES), min_size=1, max_size=40
)
_BOUND = 3
Records = list[tuple[str, int, float]]


def make(state: StateView, spec: Count | Global, emission: Emission) -> Operator:
    if isinstance(spec, Count):
        return CountWindows(spec, _SET, _ROW, emission, state)
    return GlobalWindow(spec, _SET, _ROW, emission, state)


def started(spec: Count | Global, emission: Emission | None = None) -> Run:
    return Run(partial(make, spec=spec, emission=emission or Emission()))


def taken(records: Records) -> tuple[Rows, list[int]]:
    values = [(key, time, {"v": value}) for key, time, value in records]
    return rows_of(values, _BOUND), watermarks(values, _BOUND)


def row_of(key: str, kind: str, held: list[tuple[int, float]]) -> Any:
    times = [time for time, _ in held]
    total = 0
    for _, value in held:
        total = total + value
    n = len(held)
    return _ROW(key, min(times), max(times) + 1, kind, n, total, total / n)


def said_after(before: Any, row: Any) -> list[Any]:
    """Return an update, and before it the retraction of the row before if the start has moved."""
    if before is None or before.start == row.start:
        return [row]
    return [msgspec.structs.replace(before, kind="retract"), row]


@given(_RECORDS, st.integers(1, 5))
def test_a_row_for_every_so_many_records_of_a_key(records: Records, every: int) -> None:
    held = defaultdict(list)
    expected = []
    for key, time, value in records:
        held[key].append((time, value))
        if len(held[key]) == every:
            expected.append(row_of(key, "final", held.pop(key)))
    run = started(Count(every))
    rows, marks = taken(records)
    run.driver.run(rows, marks[-1])
    assert run.emitted == expected
    run.commit()
    assert len(run.state.rows) == len(held)


@given(_RECORDS, st.integers(1, 5) | st.none(), st.integers(1, 9) | st.none(), st.booleans())
def test_a_global_window_says_what_all_records_say(
    records: Records, every: int | None, every_ms: int | None, updates: bool
) -> None:
    held = defaultdict(list)
    ticks: dict[str, int] = {}
    shown: dict[str, Any] = {}
    expected = []
    run = started(Global(every, every_ms), Emission("update" if updates else "close"))
    rows, marks = taken(records)

    def go_to(mark: int) -> None:
        due = [key for key, tick in ticks.items() if tick <= mark]
        for key in sorted(due, key=lambda key: (row_of(key, "update", held[key]).end, key)):
            say(key)
            del ticks[key]

    def say(key: str) -> None:
        expected.extend(said_after(shown.get(key), row_of(key, "update", held[key])))
        shown[key] = expected[-1]

    for (key, time, value), mark in zip(records, rows.marks, strict=True):
        go_to(mark)
        held[key].append((time, value))
        if every_ms or updates:
            ticks.setdefault(key, (mark // every_ms + 1) * every_ms if every_ms else 10**9)
        if every and len(held[key]) % every == 0:
            say(key)
            ticks.pop(key, None)
    go_to(marks[-1])
    run.driver.run(rows, marks[-1])
    if updates:
        run.commit()
        go_to(10**9)
    assert run.emitted == expected


@given(_RECORDS, st.data())
def test_cuts_restarts_and_trims_change_nothing(records: Records, data: st.DataObject) -> None:
    spec = data.draw(
        st.builds(Count, st.integers(1, 5))
        | st.builds(Global, st.integers(1, 5) | st.none(), st.integers(1, 9))
    )
    rows, marks = taken(records)
    runs = [started(spec), started(spec)]
    runs[0].take_with_faults(rows, marks, data)
    runs[1].driver.run(rows, marks[-1])
    for run in runs:
        run.commit()
        run.go_to(END_MS)
        run.commit()
    assert runs[0].emitted == runs[1].emitted
    assert runs[0].state.rows == runs[1].state.rows
