"""Windowed tables, as Faust has them: a table with a row for each window that a key has lived in.

``table[key] += 1`` changes all windows that the event's time lies in, ``table[key].current()``
reads one. A view over an ordinary table: it holds no rows itself, so atomicity, changelog and
expiry are the table's.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from streamapp.errors import UsageError
from streamapp.state.rows import MISSING
from streamapp.state.scope import current_scope
from streamapp.state.windowed_grid import Row, Unit, Window, key_of, row_of, rows_of, time_ms
from streamapp.state.windowed_moments import (
    Moment,
    Relative,
    always,
    by_field,
    clock_ms,
    event_ms,
    scope_in_hand,
)
from streamapp.state.windowed_set import WindowedView, WindowSet

if TYPE_CHECKING:
    from datetime import datetime

    from streamapp.state.table import Table
    from streamapp.state.windowed_grid import WindowGrid

_AT_EVENT = Relative(lambda: always(event_ms()), event_ms)


class WindowedTable:
    """What ``Table.tumbling`` and ``Table.hopping`` return.

    Reading outside of events spans the partitions of this worker, as with any table. A write to a
    window whose time is over, by ``expires``, does nothing.
    """

    __slots__ = ("clock_ms", "grid", "relative", "table")

    def __init__(
        self,
        table: Table,
        grid: WindowGrid,
        relative: Relative = _AT_EVENT,
        clock_ms: Callable[[], int] = clock_ms,
    ) -> None:
        #: The table below, with its rows ``(key, start_ms)``.
        self.table = table
        self.grid = grid
        self.relative = relative
        self.clock_ms = clock_ms

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.table.name

    @property
    def help(self) -> str:
        """What the table holds, in the declaration's words."""
        return self.table.help

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.grid}>"

    # --- what it is relative to ------------------------------------------------------------------

    def relative_to_now(self) -> WindowedTable:
        """Return the table with ``value()`` by the clock; writes go by the event's time."""
        return self._with(Relative(lambda: always(self.clock_ms()), event_ms))

    def relative_to_stream(self) -> WindowedTable:
        """Return the table with ``value()`` by the event time that the partition has reached.

        Writes go by the event's time.
        """
        return self._with(Relative(self._stream, event_ms))

    def relative_to_field(self, field: object, unit: Unit = "s") -> WindowedTable:
        """Return the table with reads and writes by a field of the event's value.

        Args:
            field: ``Order.created``, the field's name, or a function of the value. It holds a
                ``datetime`` or ISO 8601 text, each with its zone, or a number since 1970.
            unit: That of numbers: "s", as in Faust, or "ms".

        Raises:
            UsageError: This is no field, or no such unit.
        """
        field_ms = by_field(field, unit)
        return self._with(Relative(lambda: always(field_ms()), field_ms))

    def relative_to(self, when: datetime | float | str) -> WindowedTable:
        """Return the table with reads and writes by one moment; numbers are seconds since 1970.

        Raises:
            InputError: This is no moment.
        """
        at_ms = time_ms(when)
        return self._with(Relative(lambda: always(at_ms), lambda: at_ms))

    # --- one key ---------------------------------------------------------------------------------

    def __getitem__(self, key: Hashable) -> WindowSet:
        return WindowSet(key, self)

    def __setitem__(self, key: Hashable, value: object) -> None:
        if not isinstance(value, WindowSet):
            for row in self._written(key):
                self.table[row] = value
        elif value.table is not self.table or value.key != key:
            msg = f"Table {self.name}: windows of another key cannot be assigned to {key!r:.80}"
            raise UsageError(msg, hint="Assign a value, like that of .current()")
        # Else it is the end of `table[key] += 1`, which has changed the windows already.

    def __delitem__(self, key: Hashable) -> None:
        rows = [row for row in self._written(key) if row in self.table]
        if not rows:
            raise KeyError(key)
        for row in rows:
            del self.table[row]

    def __contains__(self, key: Hashable) -> bool:
        return self._read(key, self.relative.read()) is not MISSING

    def apply(self, key: Hashable, change: Callable[[Any, Any], Any], value: object) -> None:
        """Replace the value in each window of the event by ``change(old, value)``."""
        rows = self._written(key)
        # All are computed before one is written: a change that fails has changed nothing.
        changed = [change(self._or_default(key, self._get(row)), value) for row in rows]
        for row, new in zip(rows, changed, strict=True):
            self.table[row] = new

    def value(self, key: Hashable, moment: Moment) -> Any:
        """Return the value in the window of a moment, or the table's default.

        Raises:
            KeyError: There is neither.
        """
        return self._or_default(key, self._read(key, moment))

    def windows(self, key: Hashable) -> Iterator[tuple[Window, Any]]:
        """Iterate over the windows of a key with their values, oldest first in each partition."""
        parts = len(row_of(key, 0))
        for row, value in self.table.range(*rows_of(key)):
            if len(row) == parts:
                yield self.grid.window(row[-1]), value

    # --- many keys -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> WindowedView:
        """Return the keys that have a row in one window; by default the one of ``value()``."""
        return WindowedView(self, itemgetter(0))

    def values(self) -> WindowedView:
        """Return the values in one window; by default the one of ``value()``."""
        return WindowedView(self, itemgetter(1))

    def items(self) -> WindowedView:
        """Return ``(key, value)`` in one window; by default the one of ``value()``."""
        return WindowedView(self, lambda pair: pair)

    def pairs(self, moment: Moment) -> Iterator[tuple[Any, Any]]:
        """Iterate over ``(key, value)`` in the window of a moment."""
        table, key_type = self.table, self.table.spec.key_type
        scope = current_scope.get()
        if scope is not None:
            start = self.grid.latest(moment(scope.partition))
            yield from ((key_of(row, key_type), v) for row, v in table.items() if row[-1] == start)
            return
        for partition in sorted(table.shards):
            start = self.grid.latest(moment(partition))
            for _, row, value in table.rows(partition):
                if row[-1] == start:
                    yield key_of(row, key_type), value

    # --- inside ----------------------------------------------------------------------------------

    def _with(self, relative: Relative) -> WindowedTable:
        return WindowedTable(self.table, self.grid, relative, self.clock_ms)

    def _stream(self) -> Moment:
        scope = current_scope.get()
        return self.table.now_ms if scope is None else always(scope.now_ms)

    def _written(self, key: Hashable) -> list[Row]:
        """Return the rows that a write changes: those of the windows whose time is not over."""
        now_ms = scope_in_hand().now_ms
        starts = self.grid.starts(self.relative.write())
        return [row_of(key, start) for start in starts if not self.grid.is_over(start, now_ms)]

    def _read(self, key: Hashable, moment: Moment) -> Any:
        scope = current_scope.get()
        if scope is not None:
            return self._get(row_of(key, self.grid.latest(moment(scope.partition))))
        for partition in sorted(self.table.shards):
            row = row_of(key, self.grid.latest(moment(partition)))
            for place, value in self.table.find(row):
                if place == partition:
                    return value
        return MISSING

    def _get(self, row: Row) -> Any:
        return self.table.get(row, MISSING)

    def _or_default(self, key: Hashable, value: Any) -> Any:
        return self.table.__missing__(key) if value is MISSING else value
