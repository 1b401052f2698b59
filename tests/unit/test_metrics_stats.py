"""Moments of known samples."""

import math

import msgspec
import pytest

from streamapp.errors import InputError
from streamapp.metrics.stats import Moments, add, moments_of


def test_known_values() -> None:
    got = moments_of([2, 4, 4, 4, 5, 5, 7, 9])
    assert got is not None
    assert (got.n, got.sum, got.min, got.max, got.mean) == (8, 40, 2, 9, 5)
    assert got.stddev == 2
    assert got.stddev_sample == pytest.approx(math.sqrt(32 / 7))


def test_nothing_has_no_moments() -> None:
    assert moments_of([]) is None


def test_one_sample_has_no_estimated_deviation() -> None:
    got = add(None, 3.5)
    assert (got.stddev, got.stddev_sample) == (0, None)


def test_small_spread_far_from_zero_keeps_its_digits() -> None:
    got = moments_of([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16])
    assert got is not None
    assert got.stddev_sample == pytest.approx(math.sqrt(30), rel=1e-12)


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf, 1e200])
def test_what_would_spoil_the_sums_is_refused(sample: float) -> None:
    with pytest.raises(InputError):
        add(None, sample)


def test_largest_samples_stay_storable() -> None:
    got = moments_of([1e150, -1e150] * 100)
    assert got is not None
    assert msgspec.json.decode(msgspec.json.encode(got), type=Moments) == got
