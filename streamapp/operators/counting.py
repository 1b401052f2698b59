"""Windows that do not end by time: every so many records of a key, and one window for all time.

Records count in the order of arrival, so none is ever late. ``start`` is the least time of the
window's records, ``end`` the greatest + 1. What is due at a count is emitted by the record itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from streamapp.core.aggregates import Acc, AggregateSet
from streamapp.core.rows import Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.core.windows import Count, Emission, Global, Lateness
from streamapp.operators.keyed import Adds, Emitted, KeyedWindows
from streamapp.operators.keyed_state import DATA, Held, key_of, read_body
from streamapp.operators.operator import StateView
from streamapp.operators.results import FINAL, RETRACT, UPDATE, WindowRow


class Counted(Held):
    """The window of a key: ``count`` records in ``[first, last]``, both included.

    ``tick_ms`` is the watermark of the next periodic update; ``is_sent``: nothing has changed since
    the last row; ``shown``: the first time, last time and packed aggregates of that row, if
    something has.
    """

    __slots__ = ("acc", "count", "first", "is_sent", "last", "shown", "tick_ms")

    def __init__(self, key: Hashable, acc: Acc) -> None:
        super().__init__(key)
        self.reset(acc)

    def reset(self, acc: Acc) -> None:
        """Begin an empty window."""
        self.acc = acc
        self.count = 0
        self.first = self.tick_ms = FOREVER_MS
        self.last = -FOREVER_MS
        self.is_sent = True
        self.shown: tuple[int, int, list[Any]] | None = None

    def add(self, time: int) -> None:
        """Count a record."""
        self.count += 1
        self.is_sent = False
        self.first = min(self.first, time)
        self.last = max(self.last, time)


class _Counting(KeyedWindows[Counted]):
    """What both have in common: the state and the rows."""

    def _new(self, key: Hashable) -> Counted:
        return Counted(key, self._aggregates.new())

    def _due_of(self, held: Counted) -> int:
        return held.tick_ms

    def _emit(self, held: Counted, kind: str, out: Emitted, at: tuple[Rows, int] | None) -> None:
        end = plus(held.last, 1)
        made = [self._result(WindowRow(held.key, held.first, end, kind), held.acc)]
        if held.shown is not None and held.shown[0] != held.first:
            first, last, packed = held.shown
            void = WindowRow(held.key, first, plus(last, 1), RETRACT)
            made.insert(0, self._result(void, self._aggregates.unpack(packed)))
        for row in made:
            if at is None:
                out.add((end, held.raw), row)
            else:
                rows, index = at
                out.add((end, held.raw), row, rows.marks[index], rows.origins[index])

    def _pack(self, held: Counted) -> list[Any]:
        if not held.count:
            return []
        packed = self._aggregates.pack(held.acc)
        shown = () if held.shown is None else (held.shown,)
        return [held.count, held.first, held.last, held.tick_ms, held.is_sent, packed, *shown]

    def _unpack(self, held: Counted, body: Sequence[Any]) -> None:
        held.reset(self._aggregates.new())
        if body:
            held.count, held.first, held.last, held.tick_ms, held.is_sent, packed, *shown = body
            held.shown = tuple(shown[0]) if shown else None
            held.acc = self._aggregates.unpack(packed)

    def view(self, raw: bytes, data: bytes) -> tuple[Hashable, dict[str, object]] | None:
        """Return a key's open window as table views show it; ``None`` for rows that are timers."""
        if not raw.startswith(DATA):
            return None
        held = self._new(key_of(raw[1:]))
        self._unpack(held, read_body(data)[1:])
        results = zip(self._aggregates.names, self._aggregates.results(held.acc), strict=True)
        window = {"start": held.first, "end": plus(held.last, 1), "is_final": False}
        return held.key, {**window, **dict(results)}


class CountWindows(_Counting):
    """Every ``count`` records of a key; the row is final, and emitted by the last of them."""

    def __init__(
        self,
        spec: Count,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        del emission  # a window is emitted when it is full, which is when it closes
        super().__init__(aggregates, row, state, Lateness())
        self.shifts_times = True
        self._count = spec.count

    def _take(self, adds: Adds, stop: int, out: Emitted) -> None:
        kept, full, aggregates = self._kept, self._count, self._aggregates
        start, rows = adds.at, adds.rows
        filled: list[tuple[int, Counted]] = []
        for index in range(start, stop):
            held = kept[rows.keys[index]]
            if not held.is_dirty:
                self._touch(held)
            held.add(rows.times[index])
            adds.accs.append(held.acc)
            if held.count == full:
                # Rows wait to be added: the full window is set aside with its accumulator.
                window = Counted(held.key, held.acc)
                window.first, window.last = held.first, held.last
                filled.append((index, window))
                held.reset(aggregates.new())
        adds.flush()
        for index, window in filled:
            self._emit(window, FINAL, out, (rows, index))


class GlobalWindow(_Counting):
    """One window for each key, which never closes: every row of it is an ``update``.

    A record before all others moves its start, which is part of the name of a row: a ``retract`` of
    the row before comes with the next one.

    It emits at every ``count`` records of a key, and for the keys that have changed when the
    watermark reaches a multiple of ``every_ms`` (or of that of the emission); on ``update``, also
    once per commit.
    """

    def __init__(
        self,
        spec: Global,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        super().__init__(aggregates, row, state, Lateness())
        self._count = spec.count or 0
        self.shifts_times = self._count > 0
        self._every = spec.every_ms or (emission.every_ms if emission.kind == "every" else 0)
        self._on_update = emission.kind == "update"
        self._unsent: dict[Hashable, None] = {}

    def restore(self, watermark_ms: int) -> None:
        """See ``Operator.restore``."""
        super().restore(watermark_ms)
        for held in self._stored() if self._on_update else ():
            if not held.is_sent:
                self._unsent[held.key] = None

    def dues(self, rows: Rows, side: int = 0, last_ms: int = FOREVER_MS) -> Sequence[int] | None:
        """See ``Operator.dues``: the next multiple of the interval."""
        del side, last_ms
        return [*map(self._tick, rows.marks)] if self._every else None

    def _tick(self, mark: int) -> int:
        return mark - mark % self._every + self._every

    def _take(self, adds: Adds, stop: int, out: Emitted) -> None:
        rows, count = adds.rows, self._count
        for index in range(adds.at, stop):
            held = self._kept[rows.keys[index]]
            if held.is_sent or not held.is_dirty:
                self._stir(held, rows.marks[index])
            held.add(rows.times[index])
            adds.accs.append(held.acc)
            if count and held.count % count == 0:
                adds.flush()
                self._send(held, out, (rows, index))

    def _stir(self, held: Counted, mark: int) -> None:
        """Note that a window is about to change."""
        self._touch(held)
        if held.is_sent and held.count:
            held.shown = held.first, held.last, self._aggregates.pack(held.acc)
        if self._on_update:
            self._unsent[held.key] = None
        if self._every and held.is_sent:
            held.tick_ms = self._tick(mark)
            self._wake(held, held.tick_ms)

    def _send(self, held: Counted, out: Emitted, at: tuple[Rows, int] | None = None) -> None:
        self._emit(held, UPDATE, out, at)
        held.is_sent = True
        held.shown = None
        held.tick_ms = FOREVER_MS

    def _fire(self, held: Counted, watermark_ms: int, out: Emitted) -> None:
        if held.tick_ms <= watermark_ms:
            self._send(held, out)

    def on_commit(self) -> Rows:
        """See ``Operator.on_commit``; rows are ordered by the end of the window, then the key."""
        out = self._emitted()
        for held in map(self._kept.__getitem__, self._unsent):
            if not held.is_sent:
                self._touch(held)
                self._send(held, out)
        self._unsent.clear()
        return out.rows(in_order=True)
