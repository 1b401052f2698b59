"""Windows by key, and records that cannot be used: they leave nothing behind."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.keyed_driver import END_MS, Run
from support.operator_driver import rows_of, watermarks

from streamapp.core.aggregates import AggregateSet
from streamapp.core.aggregates.constructors import aggregate, count
from streamapp.core.aggregates.constructors import sum as sum_of
from streamapp.core.rows import Rows
from streamapp.core.windows import Count, Emission, Global, Lateness, Session, Sliding, WindowSpec
from streamapp.errors import InputError
from streamapp.operators.operator import Operator, RowError, StateView
from streamapp.operators.results import row_type
from streamapp.operators.windowing import Windowing


def _add(state: int, value: dict[str, Any]) -> int:
    if value["v"] == "breaks":
        msg = "of the application"
        raise ZeroDivisionError(msg)
    return state + 1


_OWN = AggregateSet({"n": aggregate(int, _add, lambda one, other: one + other, int)})
_SUM = AggregateSet({"n": count(), "total": sum_of("v")})
_RECORDS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-20, 20), st.sampled_from([1, 2, "breaks"])),
    min_size=1,
    max_size=30,
)
_LATE = st.builds(Lateness, st.integers(0, 5), st.sampled_from(["drop", "side", "correct"]))
_SPECS = (
    st.builds(Session, st.integers(1, 5), _LATE)
    | st.builds(Sliding, st.integers(1, 5), _LATE)
    | st.builds(Count, st.integers(1, 4))
    | st.builds(Global, st.integers(1, 4), st.integers(1, 5))
)
_ROWS = {
    (is_session, set_.names): row_type(
        "rows", (*(("first", "last") if is_session else ()), *set_.names)
    )
    for is_session in (True, False)
    for set_ in (_OWN, _SUM)
}


def started(spec: WindowSpec, aggregates: AggregateSet) -> Run:
    def make(state: StateView) -> Operator:
        row = _ROWS[isinstance(spec, Session), aggregates.names]
        return Windowing(spec, aggregates, row, Emission()).operator(state)

    return Run(partial(make))


def run_without_bad(run: Run, rows: Rows, after: int) -> list[int]:
    """Run rows as a stage does that skips the records that cannot be used; return their origins."""
    bad: list[int] = []
    while True:
        try:
            run.driver.run(rows, after)
        except RowError as exc:
            run.driver.out += exc.brought.values
            run.driver.late += run.operator.take_late().values
            bad.append(exc.origin)
            start = sum(origin <= exc.origin for origin in rows.origins)
            rows = rows.part(start, len(rows))
        else:
            return bad


@given(_SPECS, _RECORDS, st.sampled_from([_OWN, _SUM]), st.integers(1, 3))
def test_a_bad_record_is_as_if_it_had_not_been(
    spec: WindowSpec, records: list[tuple[str, int, Any]], aggregates: AggregateSet, per: int
) -> None:
    marks = watermarks(records, 3)
    rows = rows_of([(key, time, {"v": value}) for key, time, value in records], 3)
    # Rows of one origin have one mark.
    origins = [index // per for index in range(len(rows))]
    rows = Rows(rows.keys, rows.times, rows.values, [marks[o * per] for o in origins], origins)
    broken = {o for o, value in zip(origins, rows.values, strict=True) if value["v"] == "breaks"}
    whole, run = started(spec, aggregates), started(spec, aggregates)
    bad = run_without_bad(run, rows, marks[-1])
    # Functions of the application do not see what is late and dropped.
    assert broken.issuperset(bad) if aggregates is _OWN else broken == set(bad)
    good = [index for index, origin in enumerate(origins) if origin not in bad]
    columns = (rows.keys, rows.times, rows.values, rows.marks, rows.origins)
    whole.driver.run(Rows(*([column[i] for i in good] for column in columns)), marks[-1])
    for each in (whole, run):
        each.commit()
        each.go_to(END_MS)
        each.commit()
    assert run.emitted == whole.emitted
    assert (run.late, +run.operator.late) == (whole.late, +whole.operator.late)
    assert run.state.rows == whole.state.rows


def test_the_error_tells_what_happened_and_brings_what_was_done() -> None:
    run = started(Count(1), _SUM)
    rows = rows_of([("a", 1, {"v": 3}), ("a", 2, {"v": "text"}), ("a", 3, {"v": 4})], 0)
    with pytest.raises(RowError) as caught:
        run.operator.process(rows)
    assert caught.value.origin == 1
    assert isinstance(caught.value.__cause__, InputError)
    assert [row.total for row in caught.value.brought.values] == [3]
    own = started(Global(2), _OWN)
    with pytest.raises(RowError) as caught:
        own.operator.process(rows_of([("a", 1, {"v": 1}), ("a", 2, {"v": "breaks"})], 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
