"""Moments agree with Python's statistics, however the samples are cut and merged."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.metrics.stats import Moments, moments_of

samples = st.lists(
    st.integers(-1_000, 1_000) | st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=30
)


def assert_moments(got: Moments | None, values: list[float]) -> None:
    assert got is not None
    near = {"rel": 1e-9, "abs": 1e-6}
    assert (got.n, got.min, got.max) == (len(values), min(values), max(values))
    assert got.sum == pytest.approx(sum(values), **near)
    assert got.mean == pytest.approx(statistics.fmean(values), **near)
    assert got.stddev == pytest.approx(statistics.pstdev(values), **near)
    if len(values) > 1:
        assert got.stddev_sample == pytest.approx(statistics.stdev(values), **near)


@given(samples)
def test_added_one_by_one(values: list[float]) -> None:
    assert_moments(moments_of(values), values)


@given(samples, samples, samples)
def test_merged_in_either_order(
    first: list[float], second: list[float], third: list[float]
) -> None:
    a, b, c = (moments_of(values) for values in (first, second, third))
    assert a is not None
    assert b is not None
    assert c is not None
    together = first + second + third
    assert_moments(a.merge(b).merge(c), together)
    assert_moments(a.merge(b.merge(c)), together)
    assert_moments(c.merge(a).merge(b), together)
