"""Tumbling and hopping windows agree with naive ones, however batches, forms and memory are cut."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from support.operator_driver import DictState, Driver, watermarks
from support.window_models import AlignedModel, Record

from streamapp.core.aggregates import AggregateSet, constructors
from streamapp.core.rows import Rows
from streamapp.core.windows import Emission, Hopping, Lateness, Tumbling
from streamapp.operators import aligned, aligned_columns, aligned_place, aligned_results
from streamapp.operators.aligned import AlignedWindows
from streamapp.operators.operator import RowError
from streamapp.operators.results import row_type


def number_of(record: Record) -> Any:
    return record[2]


def add_number(total: int, record: Record) -> int:
    if record[2] == "fails":
        msg = "an application's function fails"
        raise ValueError(msg)
    return total + 1


#: For laws that run a case several times.
fewer = settings(max_examples=max(settings().max_examples // 4, 25))

#: Aggregates that have columns; and those with a function, which have none, and which may fail.
COLUMNS = AggregateSet(
    {
        "n": constructors.count(),
        "total": constructors.sum(number_of),
        "most": constructors.max(number_of),
        "latest": constructors.last(number_of),
    }
)
FUNCTION = AggregateSet(
    {
        **COLUMNS,
        "total": constructors.sum(lambda record: 0 if record[2] == "fails" else record[2]),
        "most": constructors.max(lambda record: 0 if record[2] == "fails" else record[2]),
        "own": constructors.aggregate(
            lambda: 0, add_number, lambda one, other: one + other, lambda total: total
        ),
    }
)
EVERY_KIND = AggregateSet(
    {
        "n": constructors.count(),
        "total": constructors.sum(number_of),
        "mean": constructors.avg(number_of),
        "spread": constructors.stddev(number_of),
        "least": constructors.min(number_of),
        "first": constructors.first(number_of),
        "latest": constructors.last(number_of),
    }
)
ROW_OF = {id(one): row_type("laws", one.names) for one in (COLUMNS, FUNCTION, EVERY_KIND)}


@contextmanager
def forms(*, columns: bool, panes: bool = True) -> Iterator[None]:
    """Have rows worked on as columns or not, and windows put together from panes or not.

    Results leave two or three at a time.
    """
    numbers = (1, 0, 0, 2) if columns else (1_000, 1_000, 1_000, 3)
    with (
        patch.object(aligned_place, "MANY", numbers[0]),
        patch.object(aligned_results, "_FEW_KEYS", numbers[1]),
        patch.object(aligned_columns, "_FEW", numbers[2]),
        patch.object(aligned_results, "PIECE", numbers[3]),
        patch.object(aligned, "PIECE", numbers[3]),
        patch("streamapp.core.windows._MANY_PANES", 64 if panes else 0),
        patch("streamapp.core.windows._PANES_PER_OVERLAP", 4 if panes else 0),
    ):
        yield


@dataclass
class Case:
    """Windows, and records with the watermarks before them, and after the last."""

    spec: Tumbling | Hopping
    emission: Emission
    aggregates: AggregateSet
    records: list[Record]
    marks: list[int]
    origins: list[int]


keys = st.sampled_from(["a", "b"]) | st.sampled_from(["a", "b", "\0", ("a", 1), 7])
numbers = st.integers(0, 9) | st.sampled_from([*range(9), "fails"])


def records_of(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Record]]:
    record = st.tuples(keys, st.integers(-30, 30), numbers)
    return st.lists(record, min_size=1, max_size=25)


records_on_grid = records_of(numbers)
lateness = st.builds(Lateness, st.integers(0, 7), st.sampled_from(["drop", "side", "correct"]))
specs = st.builds(Tumbling, st.integers(1, 9), st.integers(-3, 9), lateness) | st.builds(
    Hopping, st.integers(1, 9), st.integers(1, 9), st.integers(-3, 9), lateness
)
emissions = st.sampled_from([Emission(), Emission("update")]) | st.builds(
    Emission, st.just("every"), st.integers(1, 6)
)


@st.composite
def cases(
    draw: st.DrawFn,
    aggregates: AggregateSet = COLUMNS,
    numbers: st.SearchStrategy[Any] = numbers,
) -> Case:
    records, bound = draw(records_of(numbers)), draw(st.integers(0, 10))
    marks = watermarks(records, bound)
    marks[-1] = max(marks[-1], draw(st.integers(-10, 50)))
    more = st.lists(st.sampled_from([1, 1, 1, 0]), min_size=len(records), max_size=len(records))
    origins = [*accumulate(draw(more))]
    for i in range(1, len(records)):
        if origins[i] == origins[i - 1]:
            marks[i] = marks[i - 1]
    return Case(draw(specs), draw(emissions), aggregates, records, marks, origins)


#: Size of a batch, what happens after it, and how many rows a trim leaves.
cuts = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sets(st.sampled_from(["commit", "trim", "restart", "columns", "accs"])),
        st.integers(0, 5),
    ),
    max_size=6,
)
Cuts = list[tuple[int, set[str], int]]


class Run:
    """An operator over a case: batches with commits, trims and restarts between them."""

    def __init__(self, case: Case, *, panes: bool = True) -> None:
        self.case = case
        self.panes = panes
        self.state = DictState()
        self.driver = Driver(self.operator())
        self.commits: list[int] = []
        self.late: Counter[str] = Counter()

    def operator(self) -> AlignedWindows:
        case = self.case
        with forms(columns=False, panes=self.panes):
            return AlignedWindows(
                case.spec, case.aggregates, ROW_OF[id(case.aggregates)], case.emission, self.state
            )

    def run(self, cuts: Cuts) -> None:
        case = self.case
        values = [*zip(*case.records, strict=True)]
        rows = Rows(values[0], values[1], case.records, case.marks[:-1], case.origins)
        at, columns = 0, False
        for size, what, left in [*cuts, (len(rows), {"commit"}, 0)]:
            stop = bisect_right(rows.origins, rows.origins[min(at + size, len(rows)) - 1])
            columns = "columns" in what or (columns and "accs" not in what)
            with forms(columns=columns):
                self.batch(rows.part(at, stop), case.marks[stop])
                self.between(stop, what, left)
            at = stop
        self.late += self.driver.operator.late

    def batch(self, rows: Rows, after: int) -> None:
        try:
            self.driver.run(rows, after)
        except RowError as exc:
            self.driver.take(exc.brought)
            self.driver.late += self.driver.operator.take_late().values
            self.batch(rows.part(bisect_right(rows.origins, exc.origin), len(rows)), after)

    def between(self, stop: int, what: set[str], left: int) -> None:
        if what & {"commit", "trim", "restart"}:
            self.driver.commit(self.state)
            self.commits.append(stop)
        if "trim" in what:
            self.driver.operator.trim(left)
            assert self.driver.operator.size <= left
        if "restart" in what:
            self.late += self.driver.operator.late
            self.driver.operator = self.operator()
            self.driver.operator.restore(self.driver.watermark)


def assert_as_model(case: Case, cuts: Cuts, *, panes: bool = True) -> None:
    run = Run(case, panes=panes)
    run.run(cuts)
    model = AlignedModel(case.spec, case.emission, case.aggregates is FUNCTION)
    model.run(case.records, case.marks, case.origins, run.commits)
    got: list[Any] = run.driver.out
    assert [
        (row.key, row.start, row.end, row.kind, row.n, row.total, row.most, row.latest)
        for row in got
    ] == model.out
    assert all(row.own == row.n for row in got if case.aggregates is FUNCTION)
    assert run.driver.late == model.side
    assert +run.late == +model.late


@given(cases(), cuts)
def test_any_cut_commit_trim_and_restart_agrees_with_the_naive_model(
    case: Case, cuts: Cuts
) -> None:
    assert_as_model(case, cuts)


@fewer
@given(cases(), cuts)
def test_columns_agree_with_the_naive_model(case: Case, cuts: Cuts) -> None:
    assert_as_model(case, [(size, (what | {"columns"}) - {"accs"}, n) for size, what, n in cuts])


@fewer
@given(cases(), cuts)
def test_windows_kept_whole_agree_with_the_naive_model(case: Case, cuts: Cuts) -> None:
    assert_as_model(case, cuts, panes=False)


@fewer
@given(cases(FUNCTION), cuts, st.booleans())
def test_a_function_that_fails_leaves_nothing_of_its_origin(
    case: Case,
    cuts: Cuts,
    panes: bool,
) -> None:
    assert_as_model(case, cuts, panes=panes)


floats = st.sampled_from([0.1, 1e16, -1e16, 3, -0.0]) | st.floats(-1e9, 1e9)


@fewer
@given(cases(EVERY_KIND, floats))
def test_neither_batches_nor_forms_change_a_bit_of_results_or_state(case: Case) -> None:
    found = set()
    for size in (1, 7, 100):
        for what in (set(), {"columns"}, {"accs"}):
            run = Run(replace(case, emission=Emission()))
            flips = {"columns"} if what == {"accs"} else what
            run.run([(size, flips if i % 2 else what, 0) for i in range(len(case.records))])
            found.add((repr(run.driver.out), repr(sorted(run.state.rows.items()))))
    assert len(found) == 1


@given(specs, records_on_grid, st.data())
def test_order_within_the_bound_changes_no_final_window(
    spec: Tumbling | Hopping, records: list[Record], data: st.DataObject
) -> None:
    bound = 5
    shifts = st.lists(st.integers(0, bound), min_size=len(records), max_size=len(records))
    found = []
    for late_by in ([0] * len(records), data.draw(shifts)):
        pairs = sorted(zip(records, late_by, strict=True), key=lambda pair: pair[0][1] + pair[1])
        order = [(key, time, 1) for (key, time, _), _ in pairs]
        marks = [*watermarks(order, bound)[:-1], 100]
        run = Run(Case(spec, Emission(), COLUMNS, order, marks, [*range(len(order))]))
        run.run([])
        assert not +run.late
        found.append(repr(run.driver.out))
    assert found[0] == found[1]
