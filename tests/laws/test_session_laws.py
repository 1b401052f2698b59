"""Sessions against a naive model: every emission, any cut, any restart, any trim."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.keyed_driver import Run, as_rows, cut
from support.session_models import Record, SessionModel, watermarks

from streamapp.core.aggregates import AggregateSet
from streamapp.core.aggregates.constructors import collect, count, stddev
from streamapp.core.aggregates.constructors import sum as sum_of
from streamapp.core.rows import Rows
from streamapp.core.windows import Emission, Lateness, Session
from streamapp.operators.operator import StateView
from streamapp.operators.results import row_type
from streamapp.operators.session import SESSION_FIELDS, SessionWindows

_END = 10**6
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
        keys, times, values = zip(*self.records, strict=True)
        marks = watermarks(times, self.bound)
        return as_rows(keys, times, [{"v": value} for value in values], marks)

    @property
    def last_mark(self) -> int:
        return watermarks([time for _, time, _ in self.records], self.bound)[-1]

    def make(self, state: StateView, kind: Any, every: int, values: str) -> SessionWindows:
        spec = Session(self.gap, Lateness(self.allowed, self.on_late))
        return SessionWindows(spec, _SETS[values], _ROWS[values], Emission(kind, every), state)

    def run(self, kind: str = "close", every: int = 0, values: str = "ints") -> Run:
        return Run(partial(self.make, kind=kind, every=every, values=values))


def cases(values: st.SearchStrategy[Any], **fixed: Any) -> st.SearchStrategy[Case]:
    records = st.tuples(st.sampled_from("ab"), st.integers(-30, 30), values)
    return st.builds(
        Case,
        st.lists(records, min_size=1, max_size=30),
        gap=st.integers(1, 7),
        bound=st.integers(0, 12),
        **({"allowed": st.integers(0, 7)} | fixed),
    )


_INTS = st.integers(-2, 9)
_FLOATS = st.sampled_from([0.1, 0.2, 0.7, 1e16, -1e16, 3, 1e-9])


def as_tuples(values: list[Any]) -> list[tuple[object, ...]]:
    return [(v.kind, v.key, v.first, v.last, v.n, v.total) for v in values]


@given(cases(_INTS), st.sampled_from(["close", "every"]), st.integers(1, 9))
def test_sessions_are_those_of_the_model(case: Case, kind: str, every: int) -> None:
    model = SessionModel(case.gap, case.allowed, every if kind == "every" else 0)
    run = case.run(kind, every)
    expected = []
    for batch in cut(case.rows, 1):
        mark = batch.marks[0]
        expected += model.go_to(mark)
        model.take(Record(batch.keys[0], batch.times[0], batch.values[0]["v"], mark))
    expected += model.go_to(case.last_mark)
    run.take(case.rows)
    run.go_to(case.last_mark)
    expected += model.go_to(_END)
    run.go_to(_END)
    assert as_tuples(run.emitted) == expected
    assert run.operator.late["dropped"] == len(model.late)
    run.commit()
    assert run.view.rows == {}


@given(cases(_INTS), st.sets(st.integers(0, 30)))
def test_updates_are_those_of_the_model(case: Case, commits: set[int]) -> None:
    model, run = SessionModel(case.gap, case.allowed), case.run("update")
    expected = []
    for index, batch in enumerate(cut(case.rows, 1)):
        mark = batch.marks[0]
        expected += model.go_to(mark)
        model.take(Record(batch.keys[0], batch.times[0], batch.values[0]["v"], mark))
        run.take(batch)
        if index in commits:
            expected += model.commit()
            run.commit()
    expected += model.go_to(_END)
    run.go_to(_END)
    assert as_tuples(run.emitted) == expected


@given(cases(_INTS), st.sampled_from(["close", "update", "every"]), st.integers(1, 9))
def test_what_was_emitted_and_not_taken_back_is_what_there_is(
    case: Case, kind: str, size: int
) -> None:
    run = case.run(kind, every=3)
    for batch in cut(case.rows, size):
        run.take(batch)
        run.commit()
    run.go_to(_END)
    standing: dict[tuple[str, int], tuple[int, ...]] = {}
    for row in run.emitted:
        values = (row.end, row.first, row.last, row.n, row.total)
        if row.kind == "retract":
            assert standing.pop((row.key, row.start)) == values
        else:
            standing[row.key, row.start] = values
    whole = case.run()
    whole.take(case.rows)
    whole.go_to(_END)
    final = {(r.key, r.start): r for r in whole.emitted if r.kind != "retract"}
    taken = len(case.records) - run.operator.late.total()
    assert sum(row[3] for row in standing.values()) == taken
    if not case.allowed:
        assert {at: (r.end, r.first, r.last, r.n, r.total) for at, r in final.items()} == standing


@given(cases(_FLOATS, on_late=st.sampled_from(["drop", "side", "correct"])), st.data())
def test_cuts_restarts_and_trims_change_nothing(case: Case, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["close", "every"]))
    whole = case.run(kind, 5, "floats")
    whole.take(case.rows)
    whole.go_to(case.last_mark)
    run = case.run(kind, 5, "floats")
    for batch in cut(case.rows, data.draw(st.sampled_from([1, 2, 7, 100]))):
        run.take(batch)
        what = data.draw(st.sampled_from(["nothing", "commit", "trim", "restart"]))
        if what == "restart":
            run.restart(batch.marks[-1])
        elif what != "nothing":
            run.commit()
        if what == "trim":
            run.trim(data.draw(st.integers(0, 2)))
    run.go_to(case.last_mark)
    for each in (whole, run):
        each.go_to(_END)
        each.commit()
        assert each.view.rows == {}
    assert run.emitted == whole.emitted
    assert (run.late, run.operator.late) == (whole.late, whole.operator.late)


@given(cases(_INTS, allowed=st.just(0)), st.randoms())
def test_order_does_not_matter_while_nothing_is_late(case: Case, random: Any) -> None:
    one = Case(case.records, case.gap, bound=100)
    other = Case(random.sample(case.records, len(case.records)), case.gap, bound=100)
    runs = [one.run(), other.run()]
    for run, each in zip(runs, (one, other), strict=True):
        run.take(each.rows)
        run.go_to(_END)
    assert runs[0].emitted == runs[1].emitted


@given(cases(_INTS, on_late=st.sampled_from(["side", "correct"])))
def test_late_records_are_not_lost(case: Case) -> None:
    run = case.run()
    run.take(case.rows)
    run.go_to(_END)
    seen = sum(row.n for row in run.emitted if row.kind == "correction") + len(run.late)
    assert run.operator.late == (
        {"corrected" if case.on_late == "correct" else "side": seen} if seen else {}
    )
    model = SessionModel(case.gap, case.allowed)
    for batch in cut(case.rows, 1):
        model.go_to(batch.marks[0])
        model.take(Record(batch.keys[0], batch.times[0], batch.values[0]["v"], batch.marks[0]))
    values = [(r.key, r.time, r.value) for r in model.late]
    if case.on_late == "side":
        assert run.late == [{"v": value} for _, _, value in values]
    else:
        rows = [row for row in run.emitted if row.kind == "correction"]
        assert [(r.key, r.first, r.total) for r in rows] == values
