"""Rows of a batch by the window that they go to, and Welford's step over them in rounds.

Round ``k`` takes the ``k``-th row of every window: no window is there twice, so a round is one step
for arrays, and each window sees its rows in their order. Few windows are worked on one by one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streamapp.core.aggregates.inputs import Floats, Ints

#: Windows in a round below which a loop over floats is faster than ten calls for arrays.
FEW: Final = 96


class Groups:
    """The positions of a batch in groups of one window each, the largest group first.

    ``order`` holds the positions by window, those of one window in their order. Group ``g`` goes to
    window ``heads[g]``: the ``sizes[g]`` positions in ``order`` from ``starts[g]`` on.
    """

    __slots__ = ("heads", "order", "sizes", "starts")

    def __init__(self, rows: Ints) -> None:
        n = len(rows)
        bits = n.bit_length()
        # One sort of both: four times as fast as a stable argsort.
        both = np.sort((rows << bits) | np.arange(n))
        sorted_rows = both >> bits
        edges = np.flatnonzero(sorted_rows[1:] != sorted_rows[:-1]) + 1
        starts = np.concatenate(([0], edges))
        sizes = np.diff(np.concatenate((starts, [n])))
        largest = np.argsort(-sizes, kind="stable")
        self.order: Ints = both & ((1 << bits) - 1)
        self.starts: Ints = starts[largest]
        self.sizes: Ints = sizes[largest]
        self.heads: Ints = sorted_rows[self.starts]


def welford(groups: Groups, x: Floats, counts: Ints, mean: Floats, m2: Floats) -> None:
    """Add ``x`` (one for each position of the groups) to ``mean`` and ``m2``.

    ``counts`` are those before. Each step is that of ``parts``: the same bits for any batch.
    """
    if not len(x):
        return
    x = x[groups.order]
    starts, heads = groups.starts, groups.heads
    n, mu, squares = counts[heads].astype(np.float64), mean[heads], m2[heads]
    k = 0
    # How many groups have a k-th row: those before the first that is too small.
    ends = np.searchsorted(-groups.sizes, -np.arange(1, groups.sizes[0] + 1), side="right")
    for k, m in enumerate([*ends.tolist(), 0]):
        if m < FEW:
            break
        v = x[starts[:m] + k]
        apart = v - mu[:m]
        n[:m] += 1
        mu[:m] += apart / n[:m]
        squares[:m] += apart * (v - mu[:m])
    for g in range(m):
        segment = x[starts[g] + k : starts[g] + groups.sizes[g]].tolist()
        mu[g], squares[g] = _one_by_one(segment, n[g].item(), mu[g].item(), squares[g].item())
    mean[heads] = mu
    m2[heads] = squares


def _one_by_one(segment: list[float], n: float, mean: float, m2: float) -> tuple[float, float]:
    for x in segment:
        n += 1
        apart = x - mean
        mean += apart / n
        m2 += apart * (x - mean)
    return mean, m2
