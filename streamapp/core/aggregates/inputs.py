"""The fields of some values, read and checked once; as lists, and as arrays when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]
#: Numbers as they are exactly: all integers of 64 bits, all floats, or Python's of both kinds.
Numbers = Ints | Floats | Objects


def objects_of(values: Sequence[object]) -> Objects:
    """Return an array of these very objects, also if they are lists."""
    return np.fromiter(values, dtype=np.object_, count=len(values))


def numbers_of(values: Sequence[object]) -> Numbers:
    """Return numbers as an array of the narrowest kind that holds them exactly."""
    kinds = {*map(type, values)}
    try:
        if kinds == {float}:
            return np.fromiter(cast("Sequence[float]", values), np.float64, len(values))
        if kinds == {int}:
            return np.fromiter(cast("Sequence[int]", values), np.int64, len(values))
    except OverflowError:  # beyond 64 bits
        pass
    return objects_of(values)


class FieldColumn:
    """One field of all values: those that are not ``None``, and where they are."""

    def __init__(self, values: list[object]) -> None:
        self._has_gaps = type(None) in {*map(type, values)}
        self._present = [x for x in values if x is not None] if self._has_gaps else values
        self._all = values

    @cached_property
    def index(self) -> Ints | None:
        """Positions of the values that are there; ``None`` if all are."""
        if not self._has_gaps:
            return None
        return np.array([i for i, x in enumerate(self._all) if x is not None], np.int64)

    @cached_property
    def numbers(self) -> Numbers:
        """The values that are there, as numbers."""
        return numbers_of(self._present)

    @cached_property
    def floats(self) -> Floats:
        """The numbers, each as the nearest float."""
        return self.numbers.astype(np.float64, copy=False)

    @cached_property
    def objects(self) -> Objects:
        """The values that are there, as they are."""
        return objects_of(self._present)


@dataclass(frozen=True, slots=True)
class Slice:
    """What a field has in a run of values: ``[low, high)`` of its arrays.

    ``where`` are the positions in the run; ``None`` if each value of the run has the field.
    """

    column: FieldColumn
    low: int
    high: int
    where: Ints | None


class Inputs:
    """One list for each field of the set, all of the length of the values; ``None``: no value."""

    __slots__ = ("_columns", "_length", "lists")

    def __init__(self, lists: list[list[object]], length: int) -> None:
        self.lists = lists
        self._length = length
        self._columns: list[FieldColumn | None] = [None] * len(lists)

    def __len__(self) -> int:
        """Return the number of values."""
        return self._length

    def row(self, index: int) -> tuple[object, ...]:
        """Return the fields of one value."""
        return tuple([fields[index] for fields in self.lists])

    def take(self, indices: Sequence[int]) -> Inputs:
        """Return the fields of these values, in this order."""
        return Inputs([[fields[i] for i in indices] for fields in self.lists], len(indices))

    def part(self, field: int, start: int, stop: int) -> Slice:
        """Return a field of the values ``[start, stop)``; its arrays are made once."""
        column = self._columns[field]
        if column is None:
            column = self._columns[field] = FieldColumn(self.lists[field])
        if column.index is None:
            return Slice(column, start, stop, None)
        low, high = np.searchsorted(column.index, (start, stop)).tolist()
        return Slice(column, low, high, column.index[low:high] - start)
