"""A buffer: rows that come faster than they may leave, held within bounds.

What is held is state, one row of the table for each: it survives the worker, and a row leaves, is
dropped or is held exactly once. Rows leave as they are taken in and at each commit, in order, at a
rate of the wall clock. They have met their watermark by then: behind a buffer nothing may ask
whether a row is late.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

from streamapp.core.buffer import Bounds, Buffer, BufferFullError, Excess, Offer
from streamapp.core.rate import Rate
from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import NEVER_MS
from streamapp.operators.expiring import ROW
from streamapp.operators.limit import Wait
from streamapp.operators.operator import Operator, RowError, SetAside, StateView
from streamapp.serde.ordered_keys import decode_key, encode_key

_FIRST_ROW, _END_OF_ROWS = encode_key((ROW,)), encode_key((ROW + 1,))
#: The layout of a row: format, event time, key, value.
_FORMAT: Final = 1
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, int, bytes, bytes])


class Codec(Protocol):
    """From values to bytes that come back as what they were."""

    def encode(self, value: object) -> bytes:
        """Return the bytes of a value."""

    @property
    def decode(self) -> Callable[[bytes], object]:
        """The way back."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a buffer holds, at which pace rows leave it, and what becomes of the excess."""

    bounds: Bounds
    rate: Rate
    excess: Excess = "block"
    sample_every: int = 10


class _Held(NamedTuple):
    """A row that waits, and its bytes."""

    key: Hashable
    time_ms: int
    value: object
    data: bytes


class BufferRows(Operator):
    """Holds rows until the rate lets them leave; what finds no room meets the policy.

    ``block`` makes the source wait, ``fail`` lets the record meet the error policy; both take the
    rows of one record in together or not at all. The others drop rows, counted by ``dropped``.
    """

    def __init__(
        self, limits: Limits, codec: Codec, state: StateView, now_ms: Callable[[], int]
    ) -> None:
        super().__init__()
        #: What is held, and counts of what was not.
        self.held: Buffer[_Held] = Buffer(limits.bounds, limits.excess, limits.sample_every)
        self._rate = limits.rate
        self._excess = limits.excess
        self._codec = codec
        self._now_ms = now_ms
        self._level = self._rate.full(now_ms())
        #: Number of the oldest row that is held; the rest follow without a gap.
        self._first = 0
        #: The numbers ``[first, end)`` of the rows in the state.
        self._stored = (0, 0)
        self._keep(state)

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """Take rows in, and return those that may leave.

        Raises:
            Wait: There is no room, and the source must wait.
            RowError: There is no room and the policy is ``fail``, or a row cannot be kept.
        """
        del side
        out = _Out()
        self._level = self._rate.filled(self._level, self._now_ms())
        place = 0
        while place < len(rows):
            origin = rows.origins[place]
            stop = bisect_right(rows.origins, origin, place)
            self._release(out, rows.marks[place], origin)
            try:
                has_room = self._take_in([self._encoded(rows, n) for n in range(place, stop)])
            except Exception as exc:
                raise RowError(origin, out.rows()) from exc
            if not has_room:
                raise Wait(origin, out.rows(), self._rate.wait_ms(self._level))
            self._release(out, rows.marks[stop - 1], origin)
            place = stop
        return out.rows()

    def on_commit(self) -> Rows:
        """Return the rows that may leave by now."""
        out = _Out()
        self._level = self._rate.filled(self._level, self._now_ms())
        self._release(out, NEVER_MS, 0)
        return out.rows()

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        first, end = self._stored
        now_first, now_end = self._first, self._first + len(self.held)
        changes: dict[bytes, bytes | None] = {
            _name(number): None for number in range(first, min(now_first, end))
        }
        for number, row in enumerate(self.held, now_first):
            if number >= end:
                changes[_name(number)] = row.data
        self._stored = now_first, now_end
        return changes

    @property
    def dropped(self) -> int:
        """Number of rows that were dropped, since the worker began with the partition."""
        return self.held.dropped.total()

    @property
    def set_aside(self) -> Counter[tuple[SetAside, str]]:
        """See ``Operator.set_aside``; rows that were dropped, by the policy."""
        return Counter({("dropped", why): count for why, count in self.held.dropped.items()})

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return len(self.held)

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        first, end = self._stored
        gone = min(self._first, end) - first
        return gone + max(self._first + len(self.held) - max(end, self._first), 0)

    # --- inside ----------------------------------------------------------------------------------

    def _take_in(self, items: list[_Held]) -> bool:
        """Take in the rows of one record, as the policy says; tell whether they need not wait.

        Raises:
            BufferFullError: There is no room, and the policy is ``fail``.
            TooLargeError: There never will be, and the policy drops nothing.
        """
        if self._excess in ("block", "fail"):
            size_bytes = sum(len(item.data) for item in items)
            if not self.held.has_room_for(len(items), size_bytes):
                return self._must_wait()
        for item in items:
            before = len(self.held)
            if self.held.offer(item, len(item.data)) is Offer.ACCEPTED:
                self._first += before + 1 - len(self.held)
        return True

    def _must_wait(self) -> bool:
        if self._excess == "block":
            return False
        msg = f"A buffer of {len(self.held)} rows, {self.held.size_bytes} bytes is full"
        raise BufferFullError(msg, hint="Raise its bounds or its rate, or let it block or drop")

    def _release(self, out: _Out, mark_ms: int, origin: int) -> None:
        """Let rows leave, as many as the rate allows by now."""
        while len(self.held) and not self._rate.wait_ms(self._level):
            self._level = self._rate.less(self._level)
            out.add(self.held.take(), mark_ms, origin)
            self._first += 1

    def _encoded(self, rows: Rows, place: int) -> _Held:
        key, time_ms = rows.keys[place], rows.times[place]
        data = self._codec.encode(rows.values[place])
        row = _FORMAT, time_ms, encode_key(key), data
        # What is held is what the state would give back.
        return _Held(key, time_ms, self._codec.decode(data), _encoder.encode(row))

    def _keep(self, state: StateView) -> None:
        """Take what was held when the state was committed."""
        for name, data in state.scan(_FIRST_ROW, _END_OF_ROWS):
            _, number, *_ = decode_key(name)
            _, time_ms, key, value = _decoder.decode(data)
            if not len(self.held):
                self._first = number
            held = _Held(decode_key(key), time_ms, self._codec.decode(value), data)
            self.held.keep(held, len(data))
        self._stored = self._first, self._first + len(self.held)


class _Out:
    """Rows that leave, put together one by one."""

    def __init__(self) -> None:
        self._rows: list[_Held] = []
        self._marks: list[int] = []
        self._origins: list[int] = []

    def add(self, row: _Held, mark_ms: int, origin: int) -> None:
        """Let a row leave under the watermark, and with the record, of those at work."""
        self._rows.append(row)
        self._marks.append(mark_ms)
        self._origins.append(origin)

    def rows(self) -> Rows:
        """Return them."""
        if not self._rows:
            return NO_ROWS
        return Rows(
            [row.key for row in self._rows],
            [row.time_ms for row in self._rows],
            [row.value for row in self._rows],
            self._marks,
            self._origins,
        )


def buffer_view(raw: bytes, data: bytes) -> tuple[Hashable, object]:
    """Return what a table shows: the number of a row that is held, and the row."""
    _, time_ms, key, value = _decoder.decode(data)
    shown = {"key": decode_key(key), "time_ms": time_ms, "value": msgspec.json.decode(value)}
    return decode_key(raw)[1], shown


def _name(number: int) -> bytes:
    return encode_key((ROW, number))
