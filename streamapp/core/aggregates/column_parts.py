"""The columns of each kind of part; every one does what the part's step and merge do row by row.

Rows are windows. ``counts`` is the column of how many values a window had *before* the call: where
it is zero, the content of a column means nothing and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import numpy as np

from streamapp.core.aggregates.groups import Groups, welford
from streamapp.core.aggregates.inputs import Floats, Ints, Numbers, Objects, Slice, objects_of

Column = TypeVar("Column", Ints, Floats, Objects)


class Added:
    """Values on their way into windows: their ``rows`` and ``times``, of one field or of none."""

    def __init__(self, rows: Ints, times: Ints, field: Slice | None = None) -> None:
        self.rows = rows
        self.times = times
        self._field = field
        self._groups: list[Groups] = []

    def field(self, field: Slice) -> Added:
        """Return those of the values that have this field."""
        if field.where is not None:
            return Added(self.rows[field.where], self.times[field.where], field)
        added = Added(self.rows, self.times, field)
        added._groups = self._groups  # made once for all fields without gaps
        return added

    @property
    def numbers(self) -> Numbers:
        """The field as numbers."""
        field = self._slice
        return field.column.numbers[field.low : field.high]

    @property
    def floats(self) -> Floats:
        """The field as floats."""
        field = self._slice
        return field.column.floats[field.low : field.high]

    @property
    def objects(self) -> Objects:
        """The field as it is."""
        field = self._slice
        return field.column.objects[field.low : field.high]

    @property
    def groups(self) -> Groups:
        """The values by window."""
        if not self._groups:
            self._groups.append(Groups(self.rows))
        return self._groups[0]

    @property
    def _slice(self) -> Slice:
        return cast("Slice", self._field)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that others are merged into: distinct, and no row of ``others`` is empty.

    ``a`` and ``b`` are how many values each had before.
    """

    rows: Ints
    others: Ints
    a: Ints
    b: Ints


class PartColumn(Protocol):
    """The slots of one part, for many windows."""

    #: How many slots.
    width: int

    def grow(self, capacity: int) -> None:
        """Make room for so many windows; new ones are empty."""

    def add(self, added: Added, counts: Ints) -> None:
        """Add values, in their order."""

    def merge(self, pairs: Pairs, other: PartColumn, counts: Ints) -> None:
        """Merge windows of another column into some of this one."""

    def slots(self, rows: Ints, filled: Ints) -> list[list[object]]:
        """Return the slots of these windows, as accumulators have them: a list for each slot.

        ``filled`` is how many values each of them has.
        """

    def load(self, rows: Ints, slots: Sequence[Sequence[object]], counts: Ints) -> None:
        """Set the slots of some windows that were empty and now are not."""


def grown(values: Column, capacity: int) -> Column:
    """Return the column with room for so many windows, new ones zero."""
    bigger = np.zeros(capacity, values.dtype)
    bigger[: len(values)] = values
    return cast("Column", bigger)


class CountColumn:
    """How many: of all records, or of a field's values. Grows last, so that others see before."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Ints = np.zeros(0, np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for so many windows; new ones are empty."""
        self.values = grown(self.values, capacity)

    def add(self, added: Added) -> None:
        """Count the values."""
        np.add.at(self.values, added.rows, 1)


class MomentsColumn:
    """Mean and sum of squared deviations."""

    __slots__ = ("m2", "mean", "width")

    def __init__(self) -> None:
        self.width = 2
        self.mean: Floats = np.zeros(0)
        self.m2: Floats = np.zeros(0)

    def grow(self, capacity: int) -> None:
        """See ``PartColumn``."""
        self.mean, self.m2 = grown(self.mean, capacity), grown(self.m2, capacity)

    def add(self, added: Added, counts: Ints) -> None:
        """See ``PartColumn``."""
        welford(added.groups, added.floats, counts, self.mean, self.m2)

    def merge(self, pairs: Pairs, other: PartColumn, counts: Ints) -> None:
        """See ``PartColumn``; Chan's formula, as in ``parts``."""
        del counts
        rows, others, a, b = pairs.rows, pairs.others, pairs.a, pairs.b
        theirs = cast("MomentsColumn", other)
        apart = theirs.mean[others] - self.mean[rows]
        share = b / (a + b)
        self.mean[rows] += apart * share
        self.m2[rows] += theirs.m2[others] + apart * apart * (a * share)

    def slots(self, rows: Ints, filled: Ints) -> list[list[object]]:
        """See ``PartColumn``."""
        del filled
        return [self.mean[rows].tolist(), self.m2[rows].tolist()]

    def load(self, rows: Ints, slots: Sequence[Sequence[object]], counts: Ints) -> None:
        """See ``PartColumn``."""
        del counts
        self.mean[rows], self.m2[rows] = cast("Sequence[Sequence[float]]", slots)


class DatedColumn:
    """The value of the least or of the greatest time."""

    __slots__ = ("_is_last", "times", "values", "width")

    def __init__(self, *, is_last: bool) -> None:
        self.width = 2
        self._is_last = is_last
        self.times: Ints = np.zeros(0, np.int64)
        self.values: Objects = np.zeros(0, np.object_)

    def grow(self, capacity: int) -> None:
        """See ``PartColumn``."""
        self.times, self.values = grown(self.times, capacity), grown(self.values, capacity)

    def add(self, added: Added, counts: Ints) -> None:
        """See ``PartColumn``."""
        # By window, then by time; equal times in their order.
        order = np.lexsort((added.times, added.rows))
        rows = added.rows[order]
        edge = rows[1:] != rows[:-1]
        chosen = np.append(edge, True) if self._is_last else np.append(True, edge)
        best, heads = order[chosen], rows[chosen]
        self._put(heads, added.times[best], added.objects[best], counts[heads])

    def merge(self, pairs: Pairs, other: PartColumn, counts: Ints) -> None:
        """See ``PartColumn``."""
        del counts
        theirs = cast("DatedColumn", other)
        self._put(pairs.rows, theirs.times[pairs.others], theirs.values[pairs.others], pairs.a)

    def slots(self, rows: Ints, filled: Ints) -> list[list[object]]:
        """See ``PartColumn``."""
        times, values = self.times[rows].tolist(), self.values[rows].tolist()
        return [or_none(times, filled), or_none(values, filled)]

    def load(self, rows: Ints, slots: Sequence[Sequence[object]], counts: Ints) -> None:
        """See ``PartColumn``."""
        del counts
        self.times[rows] = cast("Sequence[int]", slots[0])
        self.values[rows] = objects_of(slots[1])

    def _put(self, rows: Ints, times: Ints, values: Objects, counts: Ints) -> None:
        mine = self.times[rows]
        better = (counts == 0) | (times >= mine if self._is_last else times < mine)
        self.times[rows[better]] = times[better]
        self.values[rows[better]] = values[better]


def or_none(values: list[object], counts: Ints) -> list[object]:
    """Return the values, ``None`` where there is none."""
    if counts.all():
        return values
    return [x if n else None for x, n in zip(values, counts.tolist(), strict=True)]
