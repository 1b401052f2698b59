"""What the windows share whose state is kept by key: records in, work at a watermark, late ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import repeat
from typing import Any, Final

from streamapp.core.aggregates import Acc, AddError, AggregateSet, Inputs, InputsError
from streamapp.core.rows import NO_ROWS, Rows, joined
from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.core.windows import Lateness
from streamapp.operators.keyed_state import H, KeyedState, read_body
from streamapp.operators.operator import Failed, RowError, StateView
from streamapp.operators.results import WindowRow

_COUNTED: Final = {"drop": "dropped", "side": "side", "correct": "corrected"}


class Emitted:
    """Rows on their way out: each with the end of its window, the bytes of its key, mark, origin.

    The time of a row is its window's end, less ``before_end_ms``. Kept as columns: thousands of
    tuples would keep the collector of garbage busy.
    """

    def __init__(self, before_end_ms: int = 1) -> None:
        self._before_end_ms = before_end_ms
        self._ends: list[int] = []
        self._raws: list[bytes] = []
        self._rows: list[WindowRow] = []
        self._marks: list[int] = []
        self._origins: list[int] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, order: tuple[int, bytes], row: WindowRow | None, mark: int = NEVER_MS, origin: int = 0
    ) -> None:
        """Add a row; ``order`` is the end and the key of the window that it is emitted for."""
        if row is None:
            return
        end, raw = order
        self._ends.append(end)
        self._raws.append(raw)
        self._rows.append(row)
        self._marks.append(mark)
        self._origins.append(origin)

    def extend(
        self,
        order: tuple[Sequence[int], Sequence[bytes]],
        rows: Iterable[WindowRow],
        marks: Iterable[int],
        origins: Iterable[int],
    ) -> None:
        """Add rows; ``order`` are the ends and the keys of their windows."""
        ends, raws = order
        self._ends += ends
        self._raws += raws
        self._rows += rows
        self._marks += marks
        self._origins += origins

    def take(self, other: Emitted, mark: int, origin: int) -> None:
        """Take the rows of another one by the end of the window and the key, with this mark."""
        if count := len(other):
            other._put_in_order()
            order = other._ends, other._raws
            self.extend(order, other._rows, repeat(mark, count), repeat(origin, count))

    def put_by_origin(self) -> None:
        """Bring the rows of many windows into the order in which they would have closed."""
        self._put_in_order()
        self._permute(sorted(range(len(self)), key=self._origins.__getitem__))

    def cut(self, length: int) -> None:
        """Forget the rows after the first ``length``."""
        for column in self._columns:
            del column[length:]

    def rows(self, *, in_order: bool = False) -> Rows:
        """Return the rows as they came, or by the end of the window and the key."""
        if not self._rows:
            return NO_ROWS
        if in_order:
            self._put_in_order()
        rows, before = self._rows, self._before_end_ms
        keys, times = [row.key for row in rows], [row.end - before for row in rows]
        return Rows(keys, times, rows, self._marks, self._origins)

    def _put_in_order(self) -> None:
        if len(self) > 1:
            # One stable sort after the other makes no tuples.
            by_key = sorted(range(len(self)), key=self._raws.__getitem__)
            self._permute(sorted(by_key, key=self._ends.__getitem__))

    @property
    def _columns(self) -> tuple[list[Any], ...]:
        return self._ends, self._raws, self._rows, self._marks, self._origins

    def _permute(self, places: Sequence[int]) -> None:
        for column in self._columns:
            column[:] = map(column.__getitem__, places)


class Adds:
    """Rows that wait to be added to accumulators, so that many are added in one go."""

    def __init__(self, aggregates: AggregateSet, rows: Rows, inputs: Inputs, start: int) -> None:
        self._aggregates = aggregates
        self._inputs = inputs
        self.rows = rows
        self._start = start
        #: The accumulators of the rows from the last ``flush`` on, one for each row.
        self.accs: list[Acc] = []

    @property
    def at(self) -> int:
        """Index of the row whose accumulator comes next."""
        return self._start + len(self.accs)

    def flush(self, skip: int = 0) -> None:
        """Add what waits; the next ``skip`` rows are added to nothing."""
        stop = self.at
        start, self._start = self._start, stop + skip
        if stop > start:
            accs = [*self.accs]
            self.accs.clear()
            self._aggregates.add_all(accs, self._inputs, self.rows, start, stop)

    def alone(self) -> Acc:
        """Return an accumulator of the next row alone, which is added to nothing else."""
        self.flush()
        acc = self._aggregates.new()
        self.accs.append(acc)
        self.flush()
        return acc


class KeyedWindows(KeyedState[H]):
    """See the module. Subclasses say what a key holds, how rows change it and when it has work."""

    def __init__(
        self, aggregates: AggregateSet, row: type[WindowRow], state: StateView, late: Lateness
    ) -> None:
        super().__init__(state)
        self._aggregates = aggregates
        self._row: Callable[..., WindowRow] = row
        self._lateness = late
        self.shifts_times = late.on_late == "correct"
        self._late_rows: list[Rows] = []
        #: The mark of the last row that was taken.
        self._mark = NEVER_MS
        #: Whether functions of the application add rows: what such a row has done may be undone.
        self._may_fail = any(
            part.kind == "functions" for one in aggregates.values() for part in one.parts
        )

    # What a kind of window is.

    #: How long before the end of a window its row has happened: at its last instant.
    _before_end_ms = 1

    def _emitted(self) -> Emitted:
        return Emitted(self._before_end_ms)

    def _take(self, adds: Adds, stop: int, out: Emitted) -> None:
        """Take the rows ``[adds.at, stop)`` in; what fails is undone by the caller."""
        raise NotImplementedError

    def _fire(self, held: H, watermark_ms: int, out: Emitted) -> None:
        """Do what is due; afterwards ``_due_of`` is greater than the watermark."""
        raise NotImplementedError

    # Rows in.

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """See ``Operator.process``."""
        del side
        out = self._emitted()
        good, bad = rows, None
        try:
            inputs = self._aggregates.extract(rows.values)
        except InputsError as exc:
            bad = exc
            good = rows.part(0, bisect_left(rows.origins, rows.origins[exc.index]))
            inputs = self._aggregates.extract(good.values)
        try:
            self._take_all(good, inputs, out)
        finally:
            self._settle_if_asked()
        if bad is not None:
            raise RowError(rows.origins[bad.index], out.rows()) from bad.__cause__
        return out.rows()

    def _take_all(self, rows: Rows, inputs: Inputs, out: Emitted) -> None:
        if not self._may_fail:
            adds = Adds(self._aggregates, rows, inputs, 0)
            self._take(adds, len(rows), out)
            adds.flush()
            self._mark = rows.marks[-1] if len(rows) else self._mark
            return
        start = 0
        while start < len(rows):
            stop = bisect_right(rows.origins, rows.origins[start], start)
            self._take_or_undo(Adds(self._aggregates, rows, inputs, start), stop, out)
            start = stop

    def _take_or_undo(self, adds: Adds, stop: int, out: Emitted) -> None:
        """Take the rows of one origin, whole or not at all."""
        start = adds.at
        before = [
            (held, self._encode(held))
            for held in map(self._kept.__getitem__, dict.fromkeys(adds.rows.keys[start:stop]))
        ]
        brought, late, sided = len(out), Counter(self.late), len(self._late_rows)
        failed = len(self._failed)
        try:
            self._take(adds, stop, out)
            adds.flush()
        except AddError as exc:
            for held, data in before:
                self._unpack(held, read_body(data)[1:] if data else ())
            self.late = late
            del self._late_rows[sided:], self._failed[failed:]
            out.cut(brought)
            raise RowError(adds.rows.origins[start], out.rows()) from exc.__cause__

    # Late rows.

    def _too_late(self, adds: Adds, out: Emitted) -> None:
        """Do with the next row what is done with those that come too late."""
        rows, at, what = adds.rows, adds.at, self._lateness.on_late
        self.late[_COUNTED[what]] += 1
        if what == "correct":
            key, time = rows.keys[at], rows.times[at]
            row = self._correction(key, time, adds.alone())
            # After all that closes before the row.
            out.add((FOREVER_MS, b""), row, rows.marks[at], rows.origins[at])
            return
        if what == "side":
            self._late_rows.append(rows.part(at, at + 1))
        adds.flush(skip=1)

    def _result(
        self, window: WindowRow, acc: Acc, between: tuple[object, ...] = ()
    ) -> WindowRow | None:
        """Return the row of a window; ``None`` if a function of the application refuses it."""
        key, start, end, kind = window.key, window.start, window.end, window.kind
        try:
            results = self._aggregates.results(acc)
        except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
            self._failed.append(Failed(key, end - self._before_end_ms, window, exc))
            return None
        return self._row(key, start, end, kind, *between, *results)

    def _correction(self, key: Hashable, time: int, acc: Acc) -> WindowRow | None:
        raise NotImplementedError

    def take_late(self) -> Rows:
        """See ``Operator.take_late``."""
        rows, self._late_rows = joined(self._late_rows), []
        return rows

    # Work at a watermark.

    def advance(self, watermark_ms: int) -> Rows:
        """See ``Operator.advance``. Rows are ordered by the end of the window, then by the key."""
        out = self._emitted()
        self._fire_all(watermark_ms, out)
        self._settle_if_asked()
        return out.rows(in_order=True)

    def _settle_if_asked(self) -> None:
        # Nobody looks ahead of one that advances itself: timers of keys that grow may lie too
        # early until their time comes, which spares their rows at each commit.
        if not self.advances_itself:
            self._settle()

    def _advance_before(self, adds: Adds, out: Emitted) -> None:
        """Do what is due at the mark of the next row, unless rows of its origin were taken."""
        at, rows = adds.at, adds.rows
        if at and rows.origins[at] == rows.origins[at - 1]:
            return
        adds.flush()
        self._fire_before(rows, at, out)

    def _fire_before(self, rows: Rows, at: int, out: Emitted) -> None:
        """Do what is due at the mark of a row of the batch; all before it have been added."""
        fired = self._emitted()
        self._fire_all(rows.marks[at], fired)
        out.take(fired, rows.marks[at - 1] if at else self._mark, rows.origins[at])

    def _fire_all(self, watermark_ms: int, out: Emitted) -> None:
        """Do all that is due; afterwards ``next_due_ms`` may be too early."""
        while (first := self._timers.first()) is not None and first[0] <= watermark_ms:
            self._timers.pop()
            held = self._held_of(first[1])
            if held is None or held.due_ms != first[0]:
                continue  # it was moved
            due_ms = self._due_of(held)
            if due_ms <= watermark_ms:
                self._touch(held)
                self._fire(held, watermark_ms, out)
                due_ms = self._due_of(held)
            held.due_ms = due_ms
            self._touch(held)
            self._timers.push(due_ms, held.raw)
        self.next_due_ms = FOREVER_MS if first is None else first[0]
