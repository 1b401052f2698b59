"""Aggregates whose result is a bounded list: frequent values, greatest rows, collected values."""

from __future__ import annotations

from bisect import insort
from typing import Final, cast

from streamapp.core.aggregates.packing import pack_value, unpack_value

#: Different values that are counted exactly, at least; ten for each one that is asked for.
MIN_COUNTED: Final = 1_000


class Frequent:
    """The most frequent values, with counts.

    Exact up to ``capacity`` different values. Beyond (Misra, Gries 1982) a count is too low by at
    most ``n / capacity`` of the ``n`` values seen: every value more frequent than that is there.
    Merged as in Agarwal 2012, with the same bound. Equal values are one, shown as the first seen.
    """

    __slots__ = ("capacity", "counts")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.counts: dict[object, int] = {}

    def add(self, value: object) -> None:
        """Take a value in."""
        counts = self.counts
        counts[value] = counts.get(value, 0) + 1
        if len(counts) > self.capacity:
            self._lower(1)

    def merge(self, other: Frequent) -> None:
        """Take in what the other has counted."""
        counts = self.counts
        for value, count in other.counts.items():
            counts[value] = counts.get(value, 0) + count
        if len(counts) > self.capacity:
            self._lower(sorted(counts.values(), reverse=True)[self.capacity])

    def result(self, k: int) -> list[list[object]]:
        """Return up to ``k`` of ``[value, count]``: greatest count first, then by value."""
        return [[value, count] for value, count in sorted(self.counts.items(), key=_rank)[:k]]

    def pack(self) -> list[object]:
        """Return ``[value, count, ...]`` in the order in which the values came."""
        return [part for value, n in self.counts.items() for part in (pack_value(value), n)]

    def unpack(self, packed: list[object]) -> Frequent:
        """Return the one that ``pack`` wrote, with this one's capacity."""
        one = Frequent(self.capacity)
        counts = cast("list[int]", packed[1::2])
        one.counts = dict(zip(map(unpack_value, packed[::2]), counts, strict=True))
        return one

    def _lower(self, by: int) -> None:
        self.counts = {value: count - by for value, count in self.counts.items() if count > by}


def _rank(counted: tuple[object, int]) -> tuple[int, bool, object]:
    """Order by count, greatest first; then numbers before text, each in their order."""
    value, count = counted
    return -count, isinstance(value, str), value


class Greatest:
    """The ``k`` values whose rank is greatest; of equal ranks those that came first."""

    __slots__ = ("k", "rows")

    def __init__(self, k: int) -> None:
        self.k = k
        self.rows: list[list[object]] = []

    def add(self, value: object, rank: float) -> None:
        """Take a value in; O(log k) comparisons."""
        rows = self.rows
        if len(rows) == self.k:
            if rank <= cast("float", rows[-1][1]):
                return
            rows.pop()
        insort(rows, [value, rank], key=_descending)

    def merge(self, other: Greatest) -> None:
        """Take in what the other has kept, as if it had come after."""
        for value, rank in other.rows:
            self.add(value, cast("float", rank))

    def result(self) -> list[list[object]]:
        """Return ``[value, rank]``, greatest first."""
        return [row.copy() for row in self.rows]

    def pack(self) -> list[object]:
        """Return ``[value, rank, ...]``."""
        return [pack_value(part) for row in self.rows for part in row]

    def unpack(self, packed: list[object]) -> Greatest:
        """Return the one that ``pack`` wrote, with this one's bound."""
        one, parts = Greatest(self.k), [*map(unpack_value, packed)]
        one.rows = [[value, rank] for value, rank in zip(parts[::2], parts[1::2], strict=True)]
        return one


def _descending(row: list[object]) -> float:
    return -cast("float", row[1])


class Collected:
    """The first values, in order of arrival, up to a limit."""

    __slots__ = ("limit", "values")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.values: list[object] = []

    def add(self, value: object) -> None:
        """Take a value in, if there is room."""
        if len(self.values) < self.limit:
            self.values.append(value)

    def merge(self, other: Collected) -> None:
        """Take in what the other has collected, as if it had come after."""
        self.values += other.values[: self.limit - len(self.values)]

    def result(self) -> list[object]:
        """Return the values; the caller may keep the list."""
        return self.values.copy()

    def pack(self) -> list[object]:
        """Return the values as JSON has them."""
        return [*map(pack_value, self.values)]

    def unpack(self, packed: list[object]) -> Collected:
        """Return the one that ``pack`` wrote, with this one's limit."""
        one = Collected(self.limit)
        one.values = [*map(unpack_value, packed)]
        return one
