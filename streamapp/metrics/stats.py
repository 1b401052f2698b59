"""Mergeable statistics of a run of numbers: what can be added, merged and stored.

Never computed as E[x^2] - E[x]^2, which loses all digits where the spread is small against the
mean. Source: Chan, Golub, LeVeque 1979 (merge), Welford 1962 (one sample).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from streamapp.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Largest size of a sample: squares of differences and their sums stay within a float, whose
#: infinity JSON could not store.
MAX_SAMPLE = 1e150


class Moments(msgspec.Struct, frozen=True):
    """Count, mean, sum of squared deviations from the mean, extremes and sum of some samples.

    There is at least one sample; no samples at all are ``None``, so that no row shows a mean of
    nothing. ``merge`` is associative and commutative up to rounding; count and extremes are
    exact.
    """

    n: int
    mean: float
    m2: float
    min: float
    max: float
    sum: float

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both runs together."""
        n = self.n + other.n
        share = other.n / n
        apart = other.mean - self.mean
        return Moments(
            n=n,
            mean=self.mean + apart * share,
            m2=self.m2 + other.m2 + apart * apart * self.n * share,
            min=min(self.min, other.min),
            max=max(self.max, other.max),
            sum=self.sum + other.sum,
        )

    @property
    def stddev(self) -> float:
        """Standard deviation with the samples as the whole population: sqrt(M2 / n)."""
        return math.sqrt(self.m2 / self.n)

    @property
    def stddev_sample(self) -> float | None:
        """Standard deviation estimated from a sample, sqrt(M2 / (n - 1)); needs two."""
        return math.sqrt(self.m2 / (self.n - 1)) if self.n > 1 else None


def add(moments: Moments | None, sample: float) -> Moments:
    """Return the moments with one more sample.

    Raises:
        InputError: The sample is NaN or beyond ``MAX_SAMPLE``: it would spoil every later result.
    """
    if not -MAX_SAMPLE <= sample <= MAX_SAMPLE:  # false for NaN too
        message = f"A sample must be a number within +/-{MAX_SAMPLE:g}, not {sample}"
        raise InputError(message)
    one = Moments(1, sample, 0.0, sample, sample, sample)
    return one if moments is None else moments.merge(one)


def moments_of(samples: Iterable[float]) -> Moments | None:
    """Return the moments of all samples; ``None`` of none.

    Raises:
        InputError: As ``add``.
    """
    result = None
    for sample in samples:
        result = add(result, sample)
    return result
