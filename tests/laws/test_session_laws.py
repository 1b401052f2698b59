"""Sessions against a naive model: every emission, any cut, any restart, any trim."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.keyed_driver import END_MS, Run
from support.operator_driver import cut, rows_of, watermarks
from support.session_models import Record, Row, SessionModel

from streamapp.core.aggregates import AggregateSet
from streamapp.core.aggregates.constructors import collect, count, stddev
from streamapp.core.aggregates.constructors import sum as sum_of
from streamapp.core.rows import Rows
from streamapp.core.windows import Emission, Lateness, Session
from streamapp.operators.operator import StateView
from streamapp.operators.results import row_type
from streamapp.operators.session import SESSION_FIELDS, SessionWindows

_SETS = {
    "ints": AggregateSet({"n": count(), "total": sum_of("v")}),
    "floats": AggregateSet({"total": sum_of("v"), "dev": stddev("v"), "all": collect("v", 99)}),
}
_ROWS = {name: row_type(name, [*SESSION_FIELDS, *set_.names]) for name, set_ in _SETS.items()}


@dataclass(frozen=True)
class Case:
    records: list[tuple[str, int, Any]]
    gap: int
    bound: int
    allowed: int = 0
    on_late: Any = "drop"

    @property
    def rows(self) -> Rows:
        return rows_of([(key, time, {"v": v}) for key, time, v in self.records], self.bound)

    @property
    def marks(self) -> list[int]:
        return watermarks(self.records, self.bound)

    def make(self, state: StateView, kind: Any, every: int, values: str) -> SessionWindows:
        spec = Session(self.gap, Lateness(self.allowed, self.on_late))
        return SessionWindows(spec, _SETS[values], _ROWS[values], Emission(kind, every), state)

    def run(self, kind: str = "close", every: int = 0, values: str = "ints") -> Run:
        return Run(partial(self.make, kind=kind, every=every, values=values))


def cases(values: st.SearchStrategy[Any], **fixed: Any) -> st.SearchStrategy[Case]:
    records = st.tuples(st.sampled_from("ab"), st.integers(-30, 30), values)
    spans = {"gap": st.integers(1, 7), "bound": st.integers(0, 12), "allowed": st.integers(0, 7)}
    return st.builds(Case, st.lists(records, min_size=1, max_size=30), **(spans | fixed))


_INTS = st.integers(-2, 9)
_FLOATS = st.sampled_from([0.1, 0.2, 0.7, 1e16, -1e16, 3, 1e-9])


def as_tuples(values: list[Any]) -> list[tuple[object, ...]]:
    return [(v.kind, v.key, v.first, v.last, v.n, v.total) for v in values]


def model_of(case: Case, *, every: int = 0) -> tuple[SessionModel, list[Row]]:
    model = SessionModel(case.gap, case.allowed, every)
    rows = []
    for (key, time, value), mark in zip(case.records, case.marks, strict=False):
        rows += model.go_to(mark)
        model.take(Record(key, time, value, mark))
    for mark in (case.marks[-1], END_MS):
        rows += model.go_to(mark)
    return model, rows


@given(cases(_INTS), st.sampled_from(["close", "every"]), st.integers(1, 9))
@example(Case([("a", 0, 0), ("a", 8, 0), ("a", 1, 0), ("a", 9, 0)], 7, 0, 2), "every", 1)
def test_sessions_are_those_of_the_model(case: Case, kind: str, every: int) -> None:
    model, expected = model_of(case, every=every if kind == "every" else 0)
    run = case.run(kind, every)
    run.driver.run(case.rows, case.marks[-1])
    run.go_to(END_MS)
    assert as_tuples(run.emitted) == expected
    assert run.operator.late["dropped"] == len(model.late)
    run.commit()
    assert run.state.rows == {}


@given(cases(_INTS), st.sets(st.integers(0, 30)))
def test_updates_are_those_of_the_model(case: Case, commits: set[int]) -> None:
    model, run = SessionModel(case.gap, case.allowed), case.run("update")
    expected: list[Row] = []
    for index, (batch, after) in enumerate(cut(case.rows, case.marks, 1)):
        model.take(Record(batch.keys[0], batch.times[0], batch.values[0]["v"], batch.marks[0]))
        expected += model.go_to(after)
        run.driver.run(batch, after)
        if index in commits:
            expected += model.commit()
            run.commit()
    expected += model.go_to(END_MS)
    run.go_to(END_MS)
    assert as_tuples(run.emitted) == expected


@given(cases(_INTS), st.sampled_from(["close", "update", "every"]))
def test_what_was_emitted_and_not_taken_back_is_what_there_is(case: Case, kind: str) -> None:
    run = case.run(kind, every=3)
    standing: dict[tuple[str, int], Any] = {}
    past: list[tuple[tuple[str, int], Any]] = []
    for batch, after in [*cut(case.rows, case.marks, 1), (None, END_MS)]:
        # A session that is over for good is not touched any more: another one may have its start.
        for name, row in [*standing.items()]:
            if row.kind != "update" and row.end + case.allowed <= run.driver.watermark:
                past.append((name, standing.pop(name)))
        seen = len(run.emitted)
        if batch is None:
            run.go_to(after)
        else:
            run.driver.run(batch, after)
            run.commit()
        for row in run.emitted[seen:]:
            if row.kind == "retract":
                assert counted(standing.pop((row.key, row.start))) == counted(row)
            else:
                standing[row.key, row.start] = row
    rows = [*past, *standing.items()]
    assert sum(row.n for _, row in rows) == len(case.records) - run.operator.late.total()
    if not case.allowed:
        final = {(r[1], r[2]): (r[3] + case.gap, *r[2:]) for r in model_of(case)[1]}
        assert {name: counted(row) for name, row in rows} == final


def counted(row: Any) -> tuple[Any, ...]:
    return row.end, row.first, row.last, row.n, row.total


@given(cases(_FLOATS, on_late=st.sampled_from(["drop", "side", "correct"])), st.data())
def test_cuts_restarts_and_trims_change_nothing(case: Case, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["close", "every"]))
    whole, run = case.run(kind, 5, "floats"), case.run(kind, 5, "floats")
    whole.driver.run(case.rows, case.marks[-1])
    run.take_with_faults(case.rows, case.marks, data)
    for each in (whole, run):
        each.go_to(END_MS)
        each.commit()
        assert each.state.rows == {}
    assert run.emitted == whole.emitted
    assert (run.late, run.operator.late) == (whole.late, whole.operator.late)


@given(
    cases(_FLOATS, on_late=st.sampled_from(["drop", "correct"])),
    st.sampled_from(["close", "every"]),
    st.integers(1, 9),
    st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_sessions_that_advance_themselves_are_the_same(
    case: Case, kind: str, size: int, more: list[bool]
) -> None:
    """The rows and their marks are those of an operator that is called at each cut."""
    origins = [*accumulate(map(int, more[: len(case.records)]))]
    rows, marks = replace(case.rows, origins=origins), list(case.marks)
    for index in range(1, len(origins)):
        if origins[index] == origins[index - 1]:
            marks[index] = marks[index - 1]
    rows = replace(rows, marks=marks[:-1])
    called, alone = case.run(kind, 5, "floats"), case.run(kind, 5, "floats")
    called.driver.run(rows, marks[-1])
    alone.operator.advances_itself = True
    start = 0
    while start < len(rows):
        stop = bisect_right(origins, origins[min(start + size, len(rows)) - 1])
        found = alone.operator.process(rows.part(start, stop))
        assert [*found.marks] == sorted(found.marks)
        alone.driver.take(found)
        alone.driver.advance(marks[stop])
        start = stop
    for run in (called, alone):
        run.go_to(END_MS)
    assert alone.emitted == called.emitted
    assert alone.operator.late == called.operator.late


@given(cases(_INTS, bound=st.just(100)), st.randoms())
def test_order_does_not_matter_while_nothing_is_late(case: Case, random: Any) -> None:
    shuffled = replace(case, records=random.sample(case.records, len(case.records)))
    runs = [case.run(), shuffled.run()]
    for run, each in zip(runs, (case, shuffled), strict=True):
        run.driver.run(each.rows, each.marks[-1])
        run.go_to(END_MS)
    assert runs[0].emitted == runs[1].emitted


@given(cases(_INTS, on_late=st.sampled_from(["side", "correct"])))
def test_late_records_are_not_lost(case: Case) -> None:
    run = case.run()
    run.driver.run(case.rows, case.marks[-1])
    late = model_of(case)[0].late
    counted = "corrected" if case.on_late == "correct" else "side"
    assert run.operator.late == ({counted: len(late)} if late else {})
    if case.on_late == "side":
        assert run.late == [{"v": record.value} for record in late]
    else:
        rows = [row for row in run.emitted if row.kind == "correction"]
        assert [(r.key, r.first, r.last, r.n, r.total) for r in rows] == [
            (r.key, r.time, r.time, 1, r.value) for r in late
        ]
