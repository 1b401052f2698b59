"""Keys and rows by number, looked up many at a time.

Keys are in a dict; rows, of which there are many for each key, in a table of open addressing: some
10 ns for each name of a batch, and no object for a row.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Any, Final

import numpy as np

from streamapp.core.text_column import TextColumn
from streamapp.core.windows import IntArray

#: 2**64 divided by the golden ratio: names that follow one another are spread evenly (Knuth 6.4).
_SPREAD: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1
_LEAST_BITS: Final = 6
_NO_ROW: Final = -1
#: Lists of texts whose codes are remembered: one for each source of an operator, and some more.
_LISTS_OF_TEXTS: Final = 4
_NO_NUMBERS: Final = np.empty(0, np.int64)
#: What a row is called that was let go.
_NAMELESS: Final = -1


class RowIndex:
    """Names, not negative, and their rows ``0, 1, 2, ...`` in the order in which they were added.

    A row that is dropped keeps its number and is found no more; its name may be added again.
    """

    __slots__ = ("_length", "_names", "_shift", "_table")

    def __init__(self) -> None:
        self._length = 0
        self._make_room(_LEAST_BITS)

    def __len__(self) -> int:
        """Return the number of rows, dropped ones included."""
        return self._length

    def names(self, rows: IntArray) -> IntArray:
        """Return the names of rows that were not dropped."""
        return self._names[rows]

    def live(self, rows: IntArray) -> IntArray:
        """Return those of the rows that were not dropped."""
        held: IntArray = rows[self._names[rows] != _NAMELESS]
        return held

    def find(self, names: IntArray) -> IntArray:
        """Return the row of each name, negative where there is none."""
        spots = self._spots(names)
        rows: IntArray = self._table[spots].astype(np.int64)
        others = np.flatnonzero((rows != _NO_ROW) & (self._names[rows] != names))
        while len(others):
            spots[others] = self._next(spots[others])
            rows[others] = found = self._table[spots[others]]
            others = others[(found != _NO_ROW) & (self._names[found] != names[others])]
        return rows

    def find_one(self, name: int) -> int | None:
        """Return the row of a name; ``None`` if there is none."""
        spot = (name * _SPREAD & _WORD) >> self._shift
        while (row := int(self._table[spot])) != _NO_ROW:
            if self._names[row] == name:
                return row
            spot = (spot + 1) % len(self._table)
        return None

    def add(self, names: IntArray) -> None:
        """Give the next rows to names that are distinct and have none."""
        first, self._length = self._length, self._length + len(names)
        if self._length > len(self._names):
            known = self._names[:first]
            self._make_room((2 * self._length - 1).bit_length())
            self._names[:first] = known
            self._enter(np.arange(first))
        self._names[first : self._length] = names
        self._enter(np.arange(first, self._length))

    def drop(self, rows: IntArray) -> None:
        """Let go of rows."""
        self._names[rows] = _NAMELESS

    def _enter(self, rows: IntArray) -> None:
        rows = self.live(rows)
        spots = self._spots(self._names[rows])
        while len(rows):
            free = self._table[spots] == _NO_ROW
            # Of several rows at a spot one stays; which one does not matter.
            self._table[spots[free]] = rows[free]
            homeless = self._table[spots] != rows
            spots, rows = self._next(spots[homeless]), rows[homeless]

    def _make_room(self, bits: int) -> None:
        """Make an empty table, of which at most half will be full."""
        self._table: np.ndarray[Any, np.dtype[np.int32]] = np.full(1 << bits, _NO_ROW, np.int32)
        self._names: IntArray = np.full(1 << bits - 1, _NAMELESS, np.int64)
        self._shift = 64 - bits

    def _spots(self, names: IntArray) -> IntArray:
        spread = names.astype(np.uint64) * np.uint64(_SPREAD)
        return (spread >> np.uint64(self._shift)).astype(np.int64)

    def _next(self, spots: IntArray) -> IntArray:
        return (spots + 1) & (len(self._table) - 1)


class Numbers(dict[Hashable, int]):
    """Keys and their numbers; a key that is looked up gets the next one if it has none."""

    __slots__ = ("_of_codes", "keys_of")

    def __init__(self, keys: Iterable[Hashable] = ()) -> None:
        #: The key of each number.
        self.keys_of = [*keys]
        #: For each list of texts that columns came with lately, the number of each code.
        self._of_codes: dict[int, tuple[list[str], IntArray]] = {}
        super().__init__(zip(self.keys_of, range(len(self.keys_of)), strict=True))

    def __missing__(self, key: Hashable) -> int:
        number = self[key] = len(self.keys_of)
        self.keys_of.append(key)
        return number

    def of(self, keys: Collection[Hashable]) -> IntArray:
        """Return the number of each key."""
        if isinstance(keys, TextColumn):
            return self._of_column(keys)
        return np.fromiter(map(self.__getitem__, keys), np.int64, len(keys))

    def _of_column(self, column: TextColumn) -> IntArray:
        """Look each text up once, whatever the number of columns it is in."""
        texts, codes = column.texts, column.numbers()
        known, numbers = self._of_codes.pop(id(texts), (texts, _NO_NUMBERS))
        if known is not texts:  # another list, where that one was
            numbers = _NO_NUMBERS
        if len(numbers) < len(texts):
            more = np.full(2 * len(texts) - len(numbers), -1, np.int64)
            numbers = np.concatenate((numbers, more))
        found: IntArray = numbers[codes]
        if found.min(initial=0) < 0:
            for code in dict.fromkeys(codes[found < 0].tolist()):
                numbers[code] = self[texts[code]]
            found = numbers[codes]
        while len(self._of_codes) >= _LISTS_OF_TEXTS:
            del self._of_codes[next(iter(self._of_codes))]
        self._of_codes[id(texts)] = texts, numbers
        return found
