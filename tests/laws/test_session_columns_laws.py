"""Sessions in slots and sessions as objects: the same rows, the same state but for its timers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any
from unittest.mock import patch

from hypothesis import example, given
from hypothesis import strategies as st
from support.keyed_driver import END_MS, Run
from support.operator_driver import rows_of, watermarks
from support.session_models import Record, SessionModel

from streamapp.core.aggregates import AggregateSet, constructors
from streamapp.core.rows import Rows
from streamapp.core.windows import Emission, Lateness, Session
from streamapp.operators import session_columns, session_forms, session_slots
from streamapp.operators.keyed_state import DATA, read_body
from streamapp.operators.keyed_timers import TIMER, timer_row
from streamapp.operators.operator import StateView
from streamapp.operators.results import row_type
from streamapp.operators.session import SESSION_FIELDS, SessionWindows
from streamapp.operators.session_held import Stage

_SET = AggregateSet(
    {
        "n": constructors.count(),
        "total": constructors.sum("v"),
        "dev": constructors.stddev("v"),
        "least": constructors.min("v"),
        "oldest": constructors.first("v"),
        "newest": constructors.last("v"),
    }
)
_ROW = row_type("session", [*SESSION_FIELDS, *_SET.names])
_VALUES = st.sampled_from([1, 2, 0.1, 0.7, 1e16, -1e16, None, 1 << 62])
#: From one record to the next.
_STEP_MS = st.sampled_from([0, 1, 2, 3, 5, 8, 13, -3])
#: How long the watermark lags behind.
_BOUND = st.sampled_from([0, 0, 1, 4, 12])


def records_of(keys: Sequence[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return lists of records, in any order or, so that few are late, with times that rise."""
    key = st.sampled_from(keys)
    steps = st.lists(st.tuples(key, _STEP_MS, values), min_size=10, max_size=30)
    anyhow = st.lists(st.tuples(key, st.integers(-30, 30), values), min_size=1, max_size=30)
    return anyhow | steps.map(_rising)


def _rising(steps: list[tuple[Any, int, Any]]) -> list[tuple[Any, int, Any]]:
    times = accumulate((step for _, step, _ in steps), initial=-30)
    return [(key, time, value) for (key, _, value), time in zip(steps, times, strict=False)]


_SPECS = st.builds(
    Session,
    st.integers(1, 15),
    st.builds(
        Lateness,
        st.sampled_from([0, 0, 0, 1, 7]),  # only without any, sessions close in columns
        st.sampled_from(["drop", "side", "correct"]),
    ),
)
_FAULTS = st.sampled_from(
    ["nothing", "nothing", "nothing", "commit", "commit", "trim to 0", "trim to 1", "restart"]
)
_IS_MANY = st.sampled_from([True, True, True, False])
#: A number of rows that no batch has.
_NEVER = 1 << 30


@contextmanager
def slots(least: int) -> Iterator[None]:
    """Have batches of so many rows worked on as columns, and those written anew at once."""
    with (
        patch.object(session_columns, "MANY", least),
        patch.object(session_slots, "_FEW", 0),
        patch.object(session_forms, "PIECE", 2),
    ):
        yield


def started(spec: Session, *, is_alone: bool) -> Run:
    def make(state: StateView) -> SessionWindows:
        made = SessionWindows(spec, _SET, _ROW, Emission("close"), state)
        made.advances_itself = is_alone
        return made

    return Run(make)


def step(run: Run, rows: Rows, after: int, fault: str) -> list[Any]:
    """Take a batch in as a stage does; return all that there is to see."""
    if run.operator.advances_itself:
        found = run.operator.process(rows)
        run.driver.take(found)
        run.driver.late += run.operator.take_late().values
        run.driver.advance(after)
        seen = [found.keys, found.marks, found.origins]
    else:
        run.driver.run(rows, after)
        seen = []
    match fault.split():
        case ["commit"]:
            run.commit()
        case ["trim", _, kept]:
            run.trim(int(kept))
        case ["restart"]:
            alone = run.operator.advances_itself
            run.restart()
            run.operator.advances_itself = alone
    return [*seen, sessions_of(run), [*run.emitted], [*run.late], +run.operator.late]


def sessions_of(run: Run) -> dict[bytes, Any]:
    """Return the rows of keys without their timers, of which each has one that is in time."""
    rows = {raw[1:]: read_body(data) for raw, data in run.state.rows.items() if raw[:1] == DATA}
    timers = {timer_row(timer, raw) for raw, (timer, *_) in rows.items()}
    assert timers == {row for row in run.state.rows if row[:1] == TIMER}
    for timer, *sessions in rows.values():
        closed = run.operator._allowed if sessions[0][2] == Stage.CLOSED else 0
        assert timer <= min(last for _, last, *_ in sessions) + run.operator._gap + closed
    return {raw: sessions for raw, (_, *sessions) in rows.items()}


@dataclass(frozen=True)
class Case:
    """Records, those ``joined`` of the origin of the one before; for operators of one kind."""

    spec: Session
    is_alone: bool
    bound: int
    records: list[tuple[Any, int, Any]]
    joined: set[int]

    def batches(self, sizes: Sequence[int]) -> Iterator[tuple[Rows, int]]:
        """Yield batches of about these sizes, each with the watermark behind it."""
        made = rows_of([(key, time, {"v": v}) for key, time, v in self.records], self.bound)
        rows, marks = self._marked(made)
        start = 0
        for size in sizes:
            stop = min(start + size, len(rows))
            while stop < len(rows) and rows.origins[stop] == rows.origins[stop - 1]:
                stop += 1
            if start < stop:
                yield rows.part(start, stop), marks[stop]
            start = stop

    def _marked(self, rows: Rows) -> tuple[Rows, list[int]]:
        """Return rows of which those of one origin have one mark, and all marks."""
        origins = [*accumulate(int(index not in self.joined) for index in range(len(rows)))]
        marks = [*rows.marks, max(rows.marks[-1], rows.times[-1] - self.bound - 1)]
        for index in range(1, len(rows)):
            if origins[index] == origins[index - 1]:
                marks[index] = marks[index - 1]
        return Rows(rows.keys, rows.times, rows.values, marks[:-1], origins), marks


_CASES = st.builds(
    Case,
    _SPECS,
    st.booleans(),
    _BOUND,
    records_of(["a", "b", "c", 7, ("a", 1)], _VALUES),
    st.sets(st.integers(1, 30), max_size=8),
)
_STEPS = st.lists(st.tuples(st.integers(1, 12), _FAULTS, _IS_MANY), min_size=5, max_size=12)


def _case(*records: tuple[str, int]) -> Case:
    return Case(Session(10), True, 0, [(*one, 1) for one in records], set())  # noqa: FBT003 - see Case


#: A session closes within a batch, before a record that would have touched it.
_CLOSES = _case(("a", 0), ("b", 11), ("a", 5))
#: A session that has grown leaves its slot for a record that is late.
_LEAVES = _case(("a", 100), ("a", 105), ("a", 0))
#: Most slots are let go, and the last one is written anew elsewhere.
_MOVES = _case(*((key, 0) for key in "abcdefgh"), ("z", 20), ("z", 21))
#: Sessions follow one another within a batch; the state has the first, or the last stays open.
_FOLLOW = _case(("a", 0), ("a", 20), ("b", 25), ("a", 45), ("c", 70), ("a", 71))
#: Too far apart for sums of times.
_FAR = _case(("a", -(1 << 60)), ("a", 0), ("a", 20))


@given(_CASES, _STEPS)
@example(_CLOSES, [(1, "nothing", True), (2, "nothing", True)])
@example(_LEAVES, [(1, "commit", True), (1, "nothing", True), (1, "commit", True)])
@example(_MOVES, [(9, "commit", True), (1, "commit", True)])
@example(_FOLLOW, [(1, "commit", True), (3, "nothing", True), (2, "restart", True)])
@example(_FAR, [(1, "nothing", True), (2, "nothing", True)])
def test_slots_and_objects_agree(case: Case, steps: list[tuple[int, str, bool]]) -> None:
    objects, columns = (started(case.spec, is_alone=case.is_alone) for _ in range(2))
    batches = case.batches([size for size, _, _ in steps])
    for (batch, after), (_, fault, is_many) in zip(batches, steps, strict=False):
        with slots(_NEVER):
            expected = step(objects, batch, after, fault)
        with slots(1 if is_many else _NEVER):
            assert step(columns, batch, after, fault) == expected
    for run in (objects, columns):
        run.go_to(END_MS)
        run.commit()
        assert run.state.rows == {}
    assert columns.emitted == objects.emitted


@given(
    _SPECS,
    _BOUND,
    records_of("abcd", st.integers(-2, 9)),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=10),
)
def test_columns_agree_with_the_model(
    spec: Session, bound: int, records: list[Any], steps: list[tuple[int, bool]]
) -> None:
    model, run = SessionModel(spec.gap_ms, spec.late.allowed_ms), started(spec, is_alone=True)
    rows, marks = (
        rows_of([(k, t, {"v": v}) for k, t, v in records], bound),
        watermarks(records, bound),
    )
    expected, start = [], 0
    for record, mark in zip(records, marks, strict=False):
        expected += model.go_to(mark)
        model.take(Record(*record, mark))
    expected += model.go_to(END_MS)
    with slots(1):
        for size, commits in [*steps, (len(rows), True)]:
            run.driver.take(run.operator.process(rows.part(start, start + size)))
            start = min(start + size, len(rows))
            run.driver.advance(marks[start])
            if commits:
                run.commit()
        run.go_to(END_MS)
    found = [(v.kind, v.key, v.first, v.last, v.n, v.total) for v in run.emitted]
    assert [row for row in found if row[0] != "correction"] == expected
    assert run.operator.late.total() == len(model.late)


def test_sessions_that_close_among_others_are_no_objects() -> None:
    run = started(Session(10), is_alone=True)
    rows = rows_of([(key, time, {"v": 1}) for time in (0, 5, 30, 60) for key in "abc"], 0)
    with slots(1):
        found = run.operator.process(rows)
    assert [(row.key, row.first, row.n) for row in found.values] == [
        (key, time, n) for time, n in ((0, 2), (30, 1)) for key in "abc"
    ]
    assert (len(run.operator._slots), len(run.operator._kept)) == (3, 0)


def test_sessions_that_only_grow_are_no_objects() -> None:
    """Without this and the one above, the laws might compare objects with objects."""
    run = started(Session(10), is_alone=True)
    rows = rows_of([(key, time, {"v": 1}) for time in range(5) for key in "abc"], 0)
    with slots(1):
        run.operator.process(rows)
    assert (len(run.operator._slots), len(run.operator._kept)) == (3, 0)
    with slots(_NEVER):
        run.operator.process(rows.part(0, 1))
    assert (len(run.operator._slots), len(run.operator._kept)) == (2, 1)
