"""Windows aligned to records, against all pairs of records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.keyed_driver import END_MS, Run
from support.operator_driver import rows_of, watermarks
from support.session_models import Record, SlidingModel

from streamapp.core.aggregates import AggregateSet
from streamapp.core.aggregates.constructors import aggregate, collect, count, quantile, stddev
from streamapp.core.aggregates.constructors import max as max_of
from streamapp.core.aggregates.constructors import sum as sum_of
from streamapp.core.rows import Rows
from streamapp.core.windows import Emission, Lateness, Sliding
from streamapp.operators.operator import StateView
from streamapp.operators.results import row_type
from streamapp.operators.sliding import SlidingWindows


def _grown(values: list[Any], more: list[Any]) -> list[Any]:
    """Merge as applications may: in place, and by returning what was given."""
    if not values:
        return more
    values += more
    return values


_SET = AggregateSet(
    {
        "n": count(),
        "total": sum_of("v"),
        "top": max_of("v"),
        "dev": stddev("v"),
        "all": collect("v", 99),
        "half": quantile("v", 0.5),
    }
)
_OWN = AggregateSet(
    {"all": aggregate(list, lambda values, value: [*values, value["v"]], _grown, list)}
)
_ROWS = {set_.names: row_type("sliding", set_.names) for set_ in (_SET, _OWN)}
_VALUES = st.sampled_from([0.1, 0.2, 0.7, 1e16, -1e16, 3, 5])


@dataclass(frozen=True)
class Case:
    records: list[tuple[str, int, Any]]
    size: int
    bound: int
    allowed: int
    on_late: Any

    @property
    def rows(self) -> Rows:
        return rows_of([(key, time, {"v": v}) for key, time, v in self.records], self.bound)

    @property
    def marks(self) -> list[int]:
        return watermarks(self.records, self.bound)

    def make(self, state: StateView, aggregates: AggregateSet) -> SlidingWindows:
        spec = Sliding(self.size, Lateness(self.allowed, self.on_late))
        return SlidingWindows(spec, aggregates, _ROWS[aggregates.names], Emission(), state)

    def run(self, aggregates: AggregateSet = _SET) -> Run:
        return Run(partial(self.make, aggregates=aggregates))


_RECORDS = st.tuples(st.sampled_from("ab"), st.integers(-30, 30), _VALUES)
_CASES = st.builds(
    Case,
    st.lists(_RECORDS, min_size=1, max_size=40),
    size=st.integers(1, 9),
    bound=st.integers(0, 12),
    allowed=st.integers(0, 7),
    on_late=st.sampled_from(["drop", "side", "correct"]),
)


def model_of(case: Case) -> tuple[SlidingModel, list[Any]]:
    model, rows = SlidingModel(case.size, case.allowed), []
    for (key, time, value), mark in zip(case.records, case.marks, strict=False):
        rows += model.go_to(mark)
        model.take(Record(key, time, value, mark))
    for mark in (case.marks[-1], END_MS):
        rows += model.go_to(mark)
    return model, rows


@given(_CASES, st.booleans())
def test_windows_are_those_of_the_model(case: Case, own: bool) -> None:
    model, expected = model_of(case)
    run = case.run(_OWN if own else _SET)
    run.driver.run(case.rows, case.marks[-1])
    run.go_to(END_MS)
    rows = [row for row in run.emitted if row.kind != "correction"]
    assert [(r.kind, r.key, r.end - 1, r.all) for r in rows] == expected
    assert all(row.end - 1 - row.start == case.size for row in rows)
    assert run.operator.late.total() == len(model.late)
    corrections = [row.all for row in run.emitted if row.kind == "correction"]
    late = [[record.value] for record in model.late]
    assert corrections == (late if case.on_late == "correct" else [])
    assert [[value["v"]] for value in run.late] == (late if case.on_late == "side" else [])
    run.commit()
    assert run.state.rows == {}


@given(_CASES)
def test_aggregates_are_those_of_the_windows_records(case: Case) -> None:
    run = case.run()
    run.driver.run(case.rows, END_MS)
    for row in run.emitted:
        assert row.n == len(row.all)
        assert row.top == max(row.all)
        assert math.isclose(row.total, math.fsum(row.all), abs_tol=100)
        # Sorted by their sketch, which is exact for so few values up to 1 %.
        assert math.isclose(row.half, sorted(row.all)[(row.n - 1) // 2], rel_tol=0.01)


@given(_CASES, st.data())
def test_cuts_restarts_and_trims_change_nothing(case: Case, data: st.DataObject) -> None:
    aggregates = data.draw(st.sampled_from([_SET, _OWN]))
    runs = [case.run(aggregates), case.run(aggregates)]
    runs[0].driver.run(case.rows, case.marks[-1])
    runs[1].take_with_faults(case.rows, case.marks, data)
    for run in runs:
        run.go_to(END_MS)
        run.commit()
        assert run.state.rows == {}
    assert runs[0].emitted == runs[1].emitted
    assert (runs[0].late, runs[0].operator.late) == (runs[1].late, runs[1].operator.late)
