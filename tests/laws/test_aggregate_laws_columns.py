"""Columns hold bit for bit what accumulators hold, however the rows were cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.aggregates import Acc, AggregateSet, Columns, Inputs, groups
from streamapp.core.aggregates import constructors as agg
from streamapp.core.rows import Rows

BOTH = AggregateSet(
    {
        f"{kind.__name__}_{name}": kind(name)
        for name in ("a", "b")
        for kind in (
            agg.count,
            agg.sum,
            agg.min,
            agg.max,
            agg.avg,
            agg.stddev,
            agg.stddev_sample,
            agg.first,
            agg.last,
        )
    }
    | {"n": agg.count()}
)
WINDOWS = 4

small_ints = st.integers(-3, 3)
huge_ints = st.sampled_from([1, 2**62, 2**63 - 2, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
edge_ints = st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63), 2**62])
floats = st.sampled_from([0.0, -0.0, 0.1, 0.2, -2.5, 1e-300, 1e15, -1e16, 1e100, -1e140])
#: Mostly of one kind, as data are: each of them goes another way.
columns_of_values = st.sampled_from(
    [
        small_ints,
        huge_ints,
        edge_ints,
        floats,
        small_ints | floats,
        st.none() | small_ints,
        st.none() | floats,
        st.none() | huge_ints | floats,
    ]
)
Row = tuple[int, int, object, object]  # window, time, a, b


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    a, b = draw(columns_of_values), draw(columns_of_values)
    row = st.tuples(st.integers(0, WINDOWS - 1), st.integers(-2, 2), a, b)
    return draw(st.lists(row, max_size=24))


def bits(values: object) -> object:
    """Return something that tells 0.0 from -0.0, and 1 from 1.0."""
    return repr(values)


@dataclass(frozen=True)
class Twins:
    """The same windows in both forms."""

    accs: list[Acc] = field(default_factory=lambda: [BOTH.new() for _ in range(WINDOWS)])
    columns: Columns = field(default_factory=lambda: of(WINDOWS))

    def add(self, rows: Sequence[Row], start: int, stop: int) -> None:
        inputs, times = inputs_of(rows), [row[1] for row in rows]
        n = len(rows)
        named = Rows([0] * n, times, [None] * n, [0] * n, [*range(n)])
        chosen = [row[0] for row in rows[start:stop]]
        BOTH.add_all([self.accs[i] for i in chosen], inputs, named, start, stop)
        at = np.array(chosen, np.int64)
        self.columns.add(at, inputs, np.array(times, np.int64), start, stop)

    def check(self) -> None:
        at = np.arange(WINDOWS)
        packed = [BOTH.pack(acc) for acc in self.accs]
        assert bits(self.columns.pack(at)) == bits(packed)
        assert bits(self.columns.accs(at)) == bits(self.accs)
        results = zip(*[BOTH.results(acc) for acc in self.accs], strict=True)
        assert bits(self.columns.results(at)) == bits([list(one) for one in results])


def of(windows: int) -> Columns:
    columns = BOTH.columns()
    assert columns is not None
    assert columns.reserve(windows) == 0
    return columns


def inputs_of(rows: Sequence[Row]) -> Inputs:
    return BOTH.extract([{"a": a, "b": b} for _, _, a, b in rows])


def cut(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    edges = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    return [*zip([0, *edges], [*edges, length], strict=True)]


@given(st.lists(row_lists(), max_size=3), st.data())
def test_columns_are_accumulators(batches: list[list[Row]], data: st.DataObject) -> None:
    twins = Twins()
    for rows in batches:
        for start, stop in cut(data.draw, len(rows)):
            twins.add(rows, start, stop)
    twins.check()


@given(row_lists(), row_lists(), st.permutations(range(WINDOWS)), st.integers(0, WINDOWS))
def test_columns_merge_as_accumulators(
    rows: list[Row], others: list[Row], order: list[int], n: int
) -> None:
    left, right = Twins(), Twins()
    left.add(rows, 0, len(rows))
    right.add(others, 0, len(others))
    chosen = order[:n]
    left.columns.merge(np.arange(n), right.columns, np.array(chosen, np.int64))
    for into, other in zip(left.accs, chosen, strict=False):
        BOTH.merge(into, right.accs[other])
    left.check()
    right.check()


@given(row_lists(), row_lists(), row_lists())
def test_loaded_columns_grow_as_accumulators(
    before: list[Row], rows: list[Row], more: list[Row]
) -> None:
    source, twins = Twins(), Twins(columns=of(1))
    twins.columns.reserve(WINDOWS - 1)
    source.add(before, 0, len(before))
    at = np.arange(WINDOWS)
    packed = source.columns.pack(at)
    twins.columns.load(0, packed[0])
    twins.columns.load_many(at[1:], packed[1:])
    for acc, one in zip(twins.accs, packed, strict=True):
        acc[:] = BOTH.unpack(one)
    twins.check()
    for batch in (rows, more):
        twins.add(batch, 0, len(batch))
    twins.check()


@given(row_lists(), row_lists(), st.booleans())
def test_new_rows_are_empty_whatever_came_before(
    rows: list[Row],
    more: list[Row],
    merges: bool,
) -> None:
    twins, fresh = Twins(), Twins()
    twins.add(rows, 0, len(rows))
    assert twins.columns.reserve(100) == WINDOWS
    fresh.add(more, 0, len(more))
    end = 100  # the last rows, past what there was room for
    if merges:
        at = np.arange(end, end + WINDOWS)
        twins.columns.merge(at, fresh.columns, np.arange(WINDOWS))
    else:
        at = np.array([end + row[0] for row in more], np.int64)
        times = np.array([row[1] for row in more], np.int64)
        twins.columns.add(at, inputs_of(more), times, 0, len(more))
    empty = BOTH.pack(BOTH.new())
    expected = [empty] * (100 - WINDOWS) + [BOTH.pack(acc) for acc in fresh.accs]
    assert bits(twins.columns.pack(np.arange(WINDOWS, WINDOWS + 100))) == bits(expected)
    twins.check()


@given(row_lists(), st.integers(1, 4))
def test_rounds_and_the_loop_are_one(rows: list[Row], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "FEW", few)
        twins = Twins()
        twins.add(rows, 0, len(rows))
    twins.check()


@pytest.mark.parametrize(
    "values",
    [(-(2**63), -1), (-1, -(2**63)), (2**63 - 1, 1), (-(2**63), 2**63 - 1, 1, 1)],
)
def test_sums_pass_the_edge_of_64_bits(values: tuple[int, ...]) -> None:
    twins = Twins()
    for one in values:
        twins.add([(0, 0, one, one)], 0, 1)
    twins.check()
    assert twins.columns.results(np.array([0]))[BOTH.names.index("sum_a")] == [sum(values)]


def test_many_windows_and_many_rows() -> None:
    """Rounds of hundreds of windows, then a few hot ones."""
    random = np.random.default_rng(7)
    n, windows = 6_000, 900
    at = np.where(random.random(n) < 0.5, random.integers(0, windows, n), random.integers(0, 3, n))
    a = (random.standard_normal(n) * 10.0 ** random.integers(-9, 9, n)).tolist()
    b = random.integers(-9, 9, n).tolist()
    inputs = inputs_of([(0, 0, x, y) for x, y in zip(a, b, strict=True)])
    times = random.integers(-50, 50, n)
    named = Rows([0] * n, times.tolist(), [None] * n, [0] * n, [*range(n)])
    accs, columns = [BOTH.new() for _ in range(windows)], of(windows)
    BOTH.add_all([accs[i] for i in at.tolist()], inputs, named, 0, n)
    for start, stop in ((0, 100), (100, 5_000), (5_000, n)):
        columns.add(at[start:stop], inputs, times, start, stop)
    assert bits(columns.accs(np.arange(windows))) == bits(accs)


def test_no_rows_at_all() -> None:
    columns, none = of(0), np.zeros(0, np.int64)
    columns.add(none, inputs_of([]), none, 0, 0)
    columns.merge(none, of(3), none)
    columns.load_many(none, [])
    assert columns.pack(none) == []
    assert columns.accs(none) == []
    assert columns.results(none) == [[]] * len(BOTH)


def test_sketches_have_no_columns() -> None:
    assert AggregateSet({"n": agg.count(), "d": agg.distinct_count("a")}).columns() is None
