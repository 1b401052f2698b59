"""Sums and extremes as Python computes them, in the fastest kind of array that does so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, cast

import numpy as np

from streamapp.core.aggregates.column_parts import Added, Pairs, PartColumn, grown, or_none
from streamapp.core.aggregates.inputs import Ints, Numbers, Objects, numbers_of

_MAX: Final = (1 << 63) - 1
Operation = Literal["sum", "min", "max"]
_STEP: Final = {"sum": np.add, "min": np.minimum, "max": np.maximum}
#: What an empty window holds, for integers, and for floats and Python's numbers.
_EMPTY_INT: Final = {"sum": 0, "min": _MAX, "max": -_MAX - 1}
_EMPTY: Final[dict[str, float]] = {"sum": 0, "min": math.inf, "max": -math.inf}


class NumberColumn:
    """The sum, the least or the greatest number of each window.

    The first numbers decide on the kind of the column: 64-bit integers or floats. Where the other
    kind comes too, or a sum might pass 64 bits, it holds Python's numbers from then on: twenty
    times slower, and the same results.
    """

    __slots__ = ("_capacity", "_operation", "values", "width")

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self.width = 1
        self._capacity = 0
        #: ``None`` until there is a number.
        self.values: Numbers | None = None

    def grow(self, capacity: int) -> None:
        """See ``PartColumn``."""
        if self.values is not None:
            bigger: Numbers = grown(cast("Objects", self.values), capacity)
            bigger[self._capacity :] = self._empty(bigger)
            self.values = bigger
        self._capacity = capacity

    def add(self, added: Added, counts: Ints) -> None:
        """See ``PartColumn``; in the order of the rows, as ``ufunc.at`` promises."""
        values, numbers = self._common(added.rows, added.numbers, counts)
        if self._operation != "sum":
            numbers = numbers + 0  # one zero of the two
        _STEP[self._operation].at(values, added.rows, numbers)

    def merge(self, pairs: Pairs, other: PartColumn, counts: Ints) -> None:
        """See ``PartColumn``."""
        theirs = cast("Numbers", cast("NumberColumn", other).values)[pairs.others]
        values, theirs = self._common(pairs.rows, theirs, counts)
        mine = values[pairs.rows]
        if self._operation == "sum":
            values[pairs.rows] = mine + theirs
        else:
            better = theirs < mine if self._operation == "min" else theirs > mine
            values[pairs.rows] = np.where(better, theirs, mine)

    def slots(self, rows: Ints, filled: Ints) -> list[list[object]]:
        """See ``PartColumn``."""
        nothing = 0 if self._operation == "sum" else None
        if self.values is None:
            return [[nothing] * len(rows)]
        numbers = or_none(self.values[rows].tolist(), filled)
        return [numbers if nothing is None else [0 if x is None else x for x in numbers]]

    def load(self, rows: Ints, slots: Sequence[Sequence[object]], counts: Ints) -> None:
        """See ``PartColumn``."""
        values, numbers = self._common(rows, numbers_of(slots[0]), counts)
        values[rows] = numbers

    def _common(self, rows: Ints, numbers: Numbers, counts: Ints) -> tuple[Numbers, Numbers]:
        """Return the column and the numbers as arrays of one kind that holds all results."""
        values = self._filled(numbers) if self.values is None else self.values
        same = values.dtype == numbers.dtype
        if not same or (self._operation == "sum" and _is_too_much(values, rows, numbers)):
            numbers = numbers.astype(np.object_)
            if values.dtype != np.object_:
                values = values.astype(np.object_)
                values[counts == 0] = self._empty(values)
        self.values = values
        return values, numbers

    def _filled(self, like: Numbers) -> Numbers:
        """Return a column of empty windows."""
        values = cast("Numbers", np.zeros(self._capacity, like.dtype))
        values[:] = self._empty(values)
        return values

    def _empty(self, values: Numbers) -> float:
        return (_EMPTY_INT if values.dtype == np.int64 else _EMPTY)[self._operation]


def _is_too_much(values: Numbers, rows: Ints, numbers: Numbers) -> bool:
    if values.dtype != np.int64 or not len(numbers):
        return False
    return may_overflow(cast("Ints", values)[rows], cast("Ints", numbers))


def may_overflow(before: Ints, added: Ints) -> bool:
    """Tell whether a sum of a number of ``before`` and of some of ``added`` may pass 64 bits."""
    return len(added) > 0 and _peak(before) + _peak(added) * len(added) > _MAX


def _peak(values: Ints) -> int:
    """Return the greatest magnitude, as Python's integer: that of the least has no 64 bits."""
    return max(-int(values.min()), int(values.max()))
