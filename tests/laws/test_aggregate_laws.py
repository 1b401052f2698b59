"""Laws of accumulators: naive models, any split and merge, what is stored comes back."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.aggregates import Acc, AggregateSet
from streamapp.core.aggregates import constructors as agg
from streamapp.core.aggregates.sketches import ACCURACY
from streamapp.core.rows import Rows

NAMES = ("n", "here", "sum", "min", "max", "avg", "sd", "sds", "first", "last")
NUMBERS = AggregateSet(
    {
        "n": agg.count(),
        "here": agg.count("a"),
        "sum": agg.sum("a"),
        "min": agg.min("a"),
        "max": agg.max("a"),
        "avg": agg.avg("a"),
        "sd": agg.stddev("a"),
        "sds": agg.stddev_sample("a"),
        "first": agg.first("a"),
        "last": agg.last("a"),
    }
)
OTHERS = AggregateSet(
    {
        "top": agg.top_k("a", 3),
        "best": agg.top_k("a", 2, by="b"),
        "distinct": agg.distinct_count("a"),
        "median": agg.quantile("a", 0.5),
        "some": agg.collect("a", 4),
        "own": agg.aggregate(list, lambda s, v: [*s, v["b"]], list.__add__, tuple),
    }
)

small_ints = st.integers(-3, 3)
huge_ints = st.sampled_from([0, 1, 2**62, 2**63 - 2, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
wild_floats = st.sampled_from([0.0, -0.0, 0.1, -2.5, 1e-300, 5e-324, 1e15, -1e16, 1e100, -1e140])
numbers = st.one_of(small_ints, huge_ints, wild_floats)
gaps = st.none() | numbers
Sample = tuple[int, object]


def value(a: object, b: object = 1) -> dict[str, object]:
    return {"a": a, "b": b}


def grown(aggregates: AggregateSet, samples: Sequence[Sample], b: object = 1) -> Acc:
    values = [value(a, b) for _, a in samples]
    times = [time for time, _ in samples]
    acc, n = aggregates.new(), len(samples)
    rows = Rows([0] * n, times, values, [0] * n, [*range(n)])
    aggregates.add_all([acc] * n, aggregates.extract(values), rows, 0, n)
    return acc


def bits(values: object) -> object:
    """Return something that tells 0.0 from -0.0, and 1 from 1.0."""
    return repr(values)


def near(a: Any, b: Any) -> bool:
    """Say whether both are nothing, or equal but for rounding."""
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


def stored(aggregates: AggregateSet, acc: Acc) -> Acc:
    return aggregates.unpack(msgspec.json.decode(msgspec.json.encode(aggregates.pack(acc))))


def samples_of(values: st.SearchStrategy[object]) -> st.SearchStrategy[list[Sample]]:
    return st.lists(st.tuples(st.integers(-2, 2), values), max_size=12)


def by_time(samples: Sequence[Sample]) -> list[object]:
    return [x for _, x in sorted(samples, key=lambda sample: sample[0])]


@given(samples_of(st.none() | small_ints | huge_ints))
def test_integers_are_exact(samples: list[Sample]) -> None:
    acc = grown(NUMBERS, samples)
    got = dict(zip(NAMES, NUMBERS.results(acc), strict=True))
    there = [x for _, x in samples if x is not None]
    assert got["n"] == len(samples)
    assert got["here"] == len(there)
    if not there:
        assert [got[name] for name in NAMES[2:]] == [None] * 8
        return
    assert bits((got["sum"], got["min"], got["max"])) == bits((sum(there), min(there), max(there)))
    assert got["avg"] == float(Fraction(sum(there), len(there)))
    dated = by_time([sample for sample in samples if sample[1] is not None])
    times = [time for time, x in samples if x is not None]
    latest = [x for time, x in samples if x is not None and time == max(times)]
    assert (got["first"], got["last"]) == (dated[0], latest[-1])


@given(st.lists(st.integers(-50, 50) | st.floats(-50, 50), min_size=1, max_size=30))
def test_moments_are_those_of_the_statistics_module(xs: list[float]) -> None:
    got = dict(zip(NAMES, NUMBERS.results(grown(NUMBERS, [(0, x) for x in xs])), strict=True))
    assert got["avg"] == pytest.approx(statistics.fmean(xs), abs=1e-9)
    assert got["sd"] == pytest.approx(statistics.pstdev(xs), rel=1e-9, abs=1e-9)
    if len(xs) == 1:
        assert got["sds"] is None
    else:
        assert got["sds"] == pytest.approx(statistics.stdev(xs), rel=1e-9, abs=1e-9)


def test_a_small_spread_around_a_large_mean_keeps_its_digits() -> None:
    xs = [1e9 + x for x in (4.0, 7.0, 13.0, 16.0)]
    got = NUMBERS.results(grown(NUMBERS, [(0, x) for x in xs]))
    assert got[NAMES.index("sds")] == pytest.approx(math.sqrt(30))


@given(samples_of(gaps))
def test_one_float_makes_the_sum_a_float(samples: list[Sample]) -> None:
    there = [x for _, x in samples if x is not None]
    got = dict(zip(NAMES, NUMBERS.results(grown(NUMBERS, samples)), strict=True))
    expected: float = 0
    for x in there:
        expected += x  # in this order
    assert bits(got["sum"]) == bits(expected if there else None)


@given(samples_of(st.none() | small_ints | huge_ints), st.data())
def test_split_and_merge_is_the_whole_for_integers(
    samples: list[Sample], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(samples)))
    whole = dict(zip(NAMES, NUMBERS.results(grown(NUMBERS, samples)), strict=True))
    acc = grown(NUMBERS, samples[:cut])
    NUMBERS.merge(acc, grown(NUMBERS, samples[cut:]))
    merged = dict(zip(NAMES, NUMBERS.results(acc), strict=True))
    for name in ("sd", "sds"):
        assert near(merged.pop(name), whole.pop(name))
    assert bits(merged) == bits(whole)


@given(samples_of(st.integers(-9, 9) | st.floats(-9, 9)), st.data())
def test_split_and_merge_is_near_the_whole_for_floats(
    samples: list[Sample], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(samples)))
    acc = grown(NUMBERS, samples[:cut])
    NUMBERS.merge(acc, grown(NUMBERS, samples[cut:]))
    whole = NUMBERS.results(grown(NUMBERS, samples))
    assert all(map(near, NUMBERS.results(acc), whole))


@given(samples_of(gaps))
def test_nothing_is_neutral(samples: list[Sample]) -> None:
    for aggregates in (NUMBERS, OTHERS):
        left, right = grown(aggregates, samples), aggregates.new()
        aggregates.merge(left, aggregates.new())
        aggregates.merge(right, grown(aggregates, samples))
        whole = bits(aggregates.pack(grown(aggregates, samples)))
        assert bits(aggregates.pack(left)) == whole
        assert bits(aggregates.pack(right)) == whole


@given(*[samples_of(st.none() | small_ints)] * 3)
def test_merge_is_associative(a: list[Sample], b: list[Sample], c: list[Sample]) -> None:
    left, right, end = grown(OTHERS, a), grown(OTHERS, b), grown(OTHERS, c)
    OTHERS.merge(right, end)
    OTHERS.merge(left, right)
    other = grown(OTHERS, a)
    for part in (b, c):
        OTHERS.merge(other, grown(OTHERS, part))
    assert bits(OTHERS.pack(left)) == bits(OTHERS.pack(other))
    assert OTHERS.results(left) == OTHERS.results(grown(OTHERS, [*a, *b, *c]))


@given(samples_of(gaps))
def test_what_is_stored_comes_back_and_grows_alike(samples: list[Sample]) -> None:
    for aggregates in (NUMBERS, OTHERS):
        acc = grown(aggregates, samples)
        back = stored(aggregates, acc)
        assert bits(aggregates.results(back)) == bits(aggregates.results(acc))
        more = grown(aggregates, [(3, 1), (-3, 0.5)])
        aggregates.merge(back, more)
        aggregates.merge(acc, more)
        assert bits(aggregates.pack(back)) == bits(aggregates.pack(acc))


@given(samples_of(st.none() | small_ints))
def test_lists_are_those_of_naive_models(samples: list[Sample]) -> None:
    got = dict(zip(OTHERS, OTHERS.results(grown(OTHERS, samples, b=7)), strict=True))
    there = [x for _, x in samples if x is not None]
    counted = sorted(Counter(there).items(), key=lambda pair: (-pair[1], pair[0]))
    assert got["top"] == [[x, n] for x, n in counted[:3]]
    assert got["distinct"] == len(set(there))
    assert got["some"] == there[:4]
    assert got["best"] == [[x, 7] for x in there[:2]]
    assert got["own"] == (7,) * len(samples)
    if there:
        low = sorted(there)[(len(there) - 1) // 2]
        assert abs(got["median"] - low) <= ACCURACY * abs(low) * (1 + 1e-9)
    else:
        assert got["median"] is None


@given(st.lists(st.tuples(small_ints, small_ints), max_size=12))
def test_the_greatest_are_those_of_a_stable_sort(pairs: list[tuple[int, int]]) -> None:
    aggregates = AggregateSet({"best": agg.top_k("a", 3, by="b")})
    values = [value(a, b) for a, b in pairs]
    acc, n = aggregates.new(), len(pairs)
    rows = Rows([0] * n, [0] * n, values, [0] * n, [*range(n)])
    aggregates.add_all([acc] * n, aggregates.extract(values), rows, 0, n)
    expected = sorted(pairs, key=lambda pair: -pair[1])[:3]
    assert aggregates.results(acc) == ([list(pair) for pair in expected],)
