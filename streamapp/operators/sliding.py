"""Sliding windows, aligned to records: the window of a record at ``t`` is ``[t - size, t]``.

Both ends are included, so ``end`` is ``t + 1``. There is one row for each record, emitted when
``W >= t``, ordered by time, key and arrival: at that time nothing more is expected in the window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, cast

import msgspec

from streamapp.core.aggregates import Acc, AddError, AggregateSet
from streamapp.core.rows import Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.core.windows import Emission, Sliding
from streamapp.operators.keyed import Adds, Emitted, KeyedWindows
from streamapp.operators.keyed_state import key_of, read_body
from streamapp.operators.operator import AT_ONCE, Failed, StateView
from streamapp.operators.results import CORRECTION, FINAL, LATE, WindowRow
from streamapp.operators.sliding_records import Folding, Kept

#: First byte of the rows that hold a record each; key, time and place among equal times follow.
RECORD: Final = b"\x02"
_SHIFT: Final = 1 << 63
_NAME_BYTES: Final = 12
_VERSION: Final = 1


def record_row(raw: bytes, name: tuple[int, int]) -> bytes:
    """Return the state's key of a record; those of one key are ordered by time, then arrival."""
    time, place = name
    return RECORD + raw + (time + _SHIFT).to_bytes(8, "big") + place.to_bytes(4, "big")


class SlidingWindows(KeyedWindows[Kept]):
    """See the module. A record is late when ``W >= t + allowed lateness``.

    A late record that is allowed is emitted as ``late``, and so again is each window that it lies
    in. A record is kept until no window can need it: ``W >= t + size + allowed lateness``.
    """

    def __init__(
        self,
        spec: Sliding,
        aggregates: AggregateSet,
        row: type[WindowRow],
        emission: Emission,
        state: StateView,
    ) -> None:
        del emission  # a window is emitted once, when its record is due
        super().__init__(aggregates, row, state, spec.late)
        self._size = spec.size_ms
        self._allowed = spec.late.allowed_ms
        self._folding = Folding(spec.size_ms, aggregates, deepcopy if self._may_fail else _same)

    def _new(self, key: Hashable) -> Kept:
        return Kept(key)

    # Rows in.

    def dues(self, rows: Rows, side: int = 0, last_ms: int = FOREVER_MS) -> Sequence[int]:
        """See ``Operator.dues``: a record's window is due at its time."""
        del side, last_ms
        past = AT_ONCE if self._allowed else FOREVER_MS
        return [
            time if time > mark else past for time, mark in zip(rows.times, rows.marks, strict=True)
        ]

    def _take(self, adds: Adds, stop: int, out: Emitted) -> None:
        rows = adds.rows
        taken: list[tuple[int, Acc]] = []
        for index in range(adds.at, stop):
            if plus(rows.times[index], self._allowed) <= rows.marks[index]:
                self._too_late(adds, out)
            else:
                acc = self._aggregates.new()
                adds.accs.append(acc)
                taken.append((index, acc))
        adds.flush()
        for index, acc in taken:
            self._insert(self._kept[rows.keys[index]], rows.times[index], rows.marks[index], acc)

    def _insert(self, held: Kept, time: int, mark: int, acc: Acc) -> None:
        name = held.insert(time, acc)
        self._touch(held)
        if time <= mark:
            last = min(plus(time, self._size), held.fired_ms)
            stop = bisect_right(held.times, last)
            held.again.add(name)
            held.again.update(held.names(bisect_left(held.times, time), stop))
        self._wake(held, time)

    # Work at a watermark.

    def _due_of(self, held: Kept) -> int:
        if held.again:
            return min(held.again)[0]
        at = bisect_right(held.times, held.fired_ms)
        if at < len(held.times):
            return held.times[at]
        return plus(held.times[-1], self._size + self._allowed) if held.times else FOREVER_MS

    def _fire(self, held: Kept, watermark_ms: int, out: Emitted) -> None:
        start = bisect_right(held.times, held.fired_ms)
        stop = bisect_right(held.times, watermark_ms)
        for name in sorted(held.again.union(held.names(start, stop))):
            kind = LATE if name in held.again else FINAL
            out.add((name[0], held.raw), self._folded(held, name[0], kind))
        held.again.clear()
        held.fired_ms = watermark_ms
        held.drop_until(watermark_ms - self._size - self._allowed)

    def _folded(self, held: Kept, time: int, kind: str) -> WindowRow | None:
        window = self._window(held.key, time, kind)
        try:
            acc = held.window(time, self._folding)
        except AddError as exc:
            held.folds = None
            self._failed.append(Failed(held.key, time, window, cast("Exception", exc.__cause__)))
            return None
        return self._result(window, acc)

    def _window(self, key: Hashable, time: int, kind: str) -> WindowRow:
        return WindowRow(key, plus(time, -self._size), plus(time, 1), kind)

    def _correction(self, key: Hashable, time: int, acc: Acc) -> WindowRow | None:
        return self._result(self._window(key, time, CORRECTION), acc)

    # State.

    def load(self, key: Hashable) -> Kept:
        """See ``KeyedState.load``."""
        held = super().load(key)
        if held.is_stored:
            prefix = RECORD + held.raw
            for row, data in self._state.scan(prefix, prefix + b"\xff" * (_NAME_BYTES + 1)):
                held.times.append(_name_of(row)[0])
                held.accs.append(self._aggregates.unpack(read_body(data)))
        return held

    def _pack(self, held: Kept) -> list[Any]:
        return [held.fired_ms, sorted(held.again)] if held.times else []

    def _unpack(self, held: Kept, body: Sequence[Any]) -> None:
        if body:
            held.fired_ms, again = body
            held.again = {(time, place) for time, place in again}

    def _extra_rows(self, held: Kept) -> Mapping[bytes, bytes | None]:
        changed: dict[bytes, bytes | None] = {record_row(held.raw, n): None for n in held.gone}
        for name, acc in held.added.items():
            packed = [_VERSION, *self._aggregates.pack(acc)]
            changed[record_row(held.raw, name)] = msgspec.json.encode(packed)
        held.gone.clear()
        held.added.clear()
        return changed

    def view(self, raw: bytes, data: bytes) -> tuple[Hashable, dict[str, object]] | None:
        """Return a record as table views show it: its time, and the aggregates of it alone."""
        if not raw.startswith(RECORD):
            return None
        results = self._aggregates.results(self._aggregates.unpack(read_body(data)))
        values = dict(zip(self._aggregates.names, results, strict=True))
        return key_of(raw[1:]), {"time": _name_of(raw)[0], **values}


def _name_of(row: bytes) -> tuple[int, int]:
    name = row[-_NAME_BYTES:]
    return int.from_bytes(name[:8], "big") - _SHIFT, int.from_bytes(name[8:], "big")


def _same(acc: Acc) -> Acc:
    return acc
