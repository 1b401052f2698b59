"""What aligned windows say: the rows of a window, for all of its keys or for some."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final

import numpy as np

from streamapp.core.aggregates import Acc, AddError, AggregateSet
from streamapp.core.times import plus
from streamapp.core.windows import Grid, IntArray
from streamapp.operators.aligned_cell import Cell
from streamapp.operators.aligned_cells import Cells
from streamapp.operators.aligned_columns import CellColumns, columns_of
from streamapp.operators.operator import Failed
from streamapp.operators.results import WindowRow
from streamapp.serde.ordered_keys import PLAIN_KEYS, encode_key

#: Keys below which a window is put together key by key: columns cost some dozens of calls.
_FEW_KEYS: Final = 64
#: Rows that leave at once, in ms of work some dozens: nothing else is done meanwhile.
PIECE: Final = 5_000
#: Keys, and the results of each aggregate for all of them.
_Found = tuple[Sequence[Hashable], Iterable[Iterable[object]]]


class Results:
    """Makes the rows of windows out of their cells.

    The rows of a window are in the order of their keys' bytes, and the cells of a key are merged in
    the order of time: results do not depend on how the cells are kept.
    """

    def __init__(
        self, grid: Grid, aggregates: AggregateSet, cells: Cells, row: type[WindowRow]
    ) -> None:
        self._grid = grid
        self._aggregates = aggregates
        self._cells = cells
        self._row: Any = row
        #: Rows that could not be made.
        self.failed: list[Failed] = []

    def of_window(
        self, start_ms: int, kind: str, some: set[Hashable] | None = None
    ) -> Iterator[list[WindowRow]]:
        """Make the rows of a window, or those of some of its keys, in pieces."""
        cells = self._cells.of_window(start_ms)
        for cell in cells:
            if some is None:
                self._cells.complete(cell)
        columns = self._cells.columns
        few = some is not None and len(some) < _FEW_KEYS
        if columns is None or few or not any(cell.count for cell in cells):
            found = self._by_key((start_ms, kind), cells, some)
        else:
            found = self._by_column(columns, cells, some)
        for keys, results in found:
            yield self.rows(start_ms, kind, keys, results)

    def rows(
        self,
        start_ms: int,
        kind: str,
        keys: Iterable[Hashable],
        results: Iterable[Iterable[object]],
    ) -> list[WindowRow]:
        """Return rows of a window; ``results`` are columns."""
        start, end = plus(start_ms, 0), plus(start_ms, self._grid.size_ms)
        return [*map(self._row, keys, repeat(start), repeat(end), repeat(kind), *results)]

    def _by_key(
        self, name: tuple[int, str], cells: Sequence[Cell], some: set[Hashable] | None
    ) -> Iterator[_Found]:
        if some is None:
            some = {key for cell in cells for key in self._cells.keys(cell)}
        keys = in_order(some)
        for at in range(0, len(keys), PIECE):
            piece = keys[at : at + PIECE]
            results = {key: self._result(name, cells, key) for key in piece}
            made = {key: one for key, one in results.items() if one is not None}
            yield [*made], zip(*made.values(), strict=True)

    def _result(
        self, name: tuple[int, str], cells: Sequence[Cell], key: Hashable
    ) -> tuple[object, ...] | None:
        """Return the results of a key; ``None`` if a function of the application refuses."""
        found = [acc for cell in cells if (acc := self._cells.find(cell, key)) is not None]
        try:
            return self._aggregates.results(self._merged(found))
        except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
            self.failed.append(self.failure(name, key, exc))
            return None

    def failure(self, name: tuple[int, str], key: Hashable, error: Exception) -> Failed:
        """Return the note that a window (its start and kind) has no row for a key."""
        start, end = plus(name[0], 0), plus(name[0], self._grid.size_ms)
        cause = error.__cause__ if isinstance(error, AddError) else None
        failed = cause if isinstance(cause, Exception) else error
        return Failed(key, end - 1, WindowRow(key, start, end, name[1]), failed)

    def _merged(self, found: Sequence[Acc]) -> Acc:
        if len(found) == 1:
            return found[0]
        merged = self._aggregates.new()
        for acc in found:
            self._aggregates.merge(merged, acc)
        return merged

    def _by_column(
        self, columns: CellColumns, cells: Sequence[Cell], some: set[Hashable] | None
    ) -> Iterator[_Found]:
        for cell in cells:
            self._cells.fetch(cell, some or ())
            self._cells.to_columns(columns, cell)
        numbers = columns.numbers(cells) if some is None else columns.numbers_of(some)
        keys = columns.keys_of(numbers)
        order = order_of(keys)
        for at in range(0, len(keys), PIECE):
            piece = order[at : at + PIECE]
            of_keys = self._columns_of(columns, cells, numbers[piece])
            yield [keys[place] for place in piece], of_keys

    def _columns_of(
        self, columns: CellColumns, cells: Sequence[Cell], numbers: IntArray
    ) -> Iterable[Iterable[object]]:
        """Return the results of the keys with these numbers, all of which are in columns."""
        if self._grid.is_single:
            return columns.columns.results(columns.find(cells[0], numbers))
        merged = columns_of(self._aggregates)
        merged.reserve(len(numbers))
        for cell in cells:
            rows = columns.find(cell, numbers)
            here = np.flatnonzero(rows >= 0)
            merged.merge(here, columns.columns, rows[here])
        return merged.results(np.arange(len(numbers)))


def in_order(keys: Collection[Hashable]) -> list[Any]:
    """Return the keys in the order of their bytes in the state."""
    found = [*keys]
    return [found[place] for place in order_of(found)]


def order_of(keys: Sequence[Any]) -> list[int]:
    """Return the places of the keys in the order of their bytes in the state."""
    kinds = {*map(type, keys)}
    if len(kinds) == 1 and kinds <= PLAIN_KEYS:
        # Within one kind, that is the order of the bytes.
        return sorted(range(len(keys)), key=keys.__getitem__)
    return sorted(range(len(keys)), key=[*map(encode_key, keys)].__getitem__)
