"""What a join of two streams holds: for each key the rows of both sides, in order of time.

A row of state is one record: ``(ROW, key, side, time_ms, sequence)``, and a byte of format and flag
before the value. A key has one timer, for the first of its
rows that something is due for. Memory holds all rows of a key, or none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from streamapp.core.times import FOREVER_MS
from streamapp.operators.expiring import META, ROW, Changes, Timers, int_part
from streamapp.operators.operator import StateView
from streamapp.serde.ordered_keys import decode_key, encode_key, encode_under

#: First byte of a row: format 1, and whether the row has found a partner.
_UNMATCHED: Final = b"\x10"
_MATCHED: Final = b"\x11"
_TUPLE = encode_key(())
_SIDES = (int_part(0), int_part(1))
_SEQUENCE = encode_key((META, "sequence"))
_FIRST_ROW, _END_OF_ROWS = encode_key((ROW,)), encode_key((ROW + 1,))
Due = Callable[[Sequence[int]], int]


class Codec(Protocol):
    """How values of one side are kept; what is decoded must be what was encoded."""

    def encode(self, value: object) -> bytes:
        """Return the bytes; ``InputError`` for a value that would not come back as it is."""

    def decode(self, data: bytes) -> object:
        """Return the value."""


@dataclass(slots=True, eq=False)
class Held:
    """A record that waits for partners; ``sequence`` is its place in the order of arrival."""

    time_ms: int
    sequence: int
    value: object
    is_matched: bool


@dataclass(slots=True, eq=False)
class Bucket:
    """The records of one key: those of a side in the order of (time, arrival).

    ``times`` are those of ``rows``, apart so that they can be searched; ``heads`` are what the
    keys of a side's rows begin with.
    """

    key: Hashable
    name: bytes
    heads: tuple[bytes, bytes]
    times: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    rows: tuple[list[Held], list[Held]] = field(default_factory=lambda: ([], []))
    due_ms: int = FOREVER_MS

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here."""
        return not self.rows[0] and not self.rows[1]


class JoinState:
    """The buckets of a join.

    ``dues`` tell, by the times of a side (at least one, in order), at which watermark to look.
    """

    def __init__(
        self,
        state: StateView,
        codecs: tuple[Codec, Codec],
        dues: tuple[Due, Due],
    ) -> None:
        self._state = state
        self._codecs = codecs
        self._dues = dues
        self._changes = Changes()
        self._timers = Timers(state, self._changes)
        self._buckets: dict[Hashable, Bucket] = {}
        #: Those that had nothing when they were asked for.
        self._looked_at: list[Bucket] = []
        #: Whether the state may hold keys that memory does not; unknown before the first look.
        self._has_more: bool | None = None
        self._sequence: int | None = None
        self.size = 0

    @property
    def next_due_ms(self) -> int:
        """The least watermark at which a bucket may be due."""
        return self._timers.next_ms

    @property
    def changed(self) -> int:
        """Number of rows that the next drain brings."""
        return len(self._changes)

    def bucket(self, key: Hashable) -> Bucket:
        """Return the bucket of a key; ``tidy`` must be called afterwards.

        Raises:
            InputError: The key is no key.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._loaded(key)
            self._buckets[key] = bucket
            if bucket.is_empty:
                self._looked_at.append(bucket)
        return bucket

    def add(self, bucket: Bucket, side: int, held: Held, data: bytes) -> None:
        """Put a record into its bucket, and give it its place in the order of arrival."""
        held.sequence = self._next_sequence()
        at = bisect_right(bucket.times[side], held.time_ms)
        bucket.times[side].insert(at, held.time_ms)
        bucket.rows[side].insert(at, held)
        self.size += 1
        flag = _MATCHED if held.is_matched else _UNMATCHED
        self._changes.insert(_raw(bucket, side, held), flag + data)
        due_ms = self._dues[side](bucket.times[side])
        if due_ms < bucket.due_ms:
            self._timers.move(bucket.name, bucket.due_ms, due_ms)
            bucket.due_ms = due_ms

    def match(self, bucket: Bucket, side: int, rows: Iterable[Held]) -> None:
        """Remember that records have found a partner."""
        for held in rows:
            if not held.is_matched:
                held.is_matched = True
                data = self._codecs[side].encode(held.value)
                self._changes.update(_raw(bucket, side, held), _MATCHED + data)

    def drop(self, bucket: Bucket, side: int, count: int) -> None:
        """Forget the first records of a side."""
        for held in bucket.rows[side][:count]:
            self._changes.delete(_raw(bucket, side, held))
        del bucket.times[side][:count], bucket.rows[side][:count]
        self.size -= count

    def settle(self, bucket: Bucket) -> None:
        """Set the bucket's timer to what it holds now; an empty one is forgotten."""
        due_ms = self._due_ms(bucket)
        self._timers.move(bucket.name, bucket.due_ms, due_ms)
        bucket.due_ms = due_ms
        if bucket.is_empty:
            self._buckets.pop(bucket.key, None)

    def tidy(self) -> None:
        """Forget the buckets that were looked at, had nothing, and got nothing since."""
        for bucket in self._looked_at:
            if bucket.is_empty:
                self.settle(bucket)
        self._looked_at.clear()

    def due(self, watermark_ms: int) -> Iterator[Bucket]:
        """Iterate over the buckets that are due; each is settled before the next one is taken."""
        for due_ms, name in self._timers.due(watermark_ms):
            bucket = self.bucket(decode_key(_TUPLE + name)[0])
            if bucket.due_ms == due_ms:
                yield bucket
            else:
                self._timers.correct(name, due_ms, bucket.due_ms)
            self.settle(bucket)
        self._looked_at.clear()

    def drain(self) -> dict[bytes, bytes | None]:
        """Return the changes since the last call."""
        if self._changes and self._sequence is not None:
            self._changes.update(_SEQUENCE, b"%d" % self._sequence)
        return self._changes.take()

    def trim(self, rows: int) -> None:
        """Forget the buckets that have been there for longest, until so many rows are left."""
        self._timers.trim(rows)
        while self.size > rows:
            bucket = self._buckets.pop(next(iter(self._buckets)))
            self.size -= len(bucket.times[0]) + len(bucket.times[1])
            self._has_more = True

    def _due_ms(self, bucket: Bucket) -> int:
        left, right = bucket.times
        left_ms = self._dues[0](left) if left else FOREVER_MS
        return min(left_ms, self._dues[1](right)) if right else left_ms

    def _next_sequence(self) -> int:
        if self._sequence is None:
            self._sequence = int(self._state.get(_SEQUENCE) or 0)
        self._sequence += 1
        return self._sequence

    def _loaded(self, key: Hashable) -> Bucket:
        """Return a bucket with what the state holds of its key."""
        name = encode_under(b"", key)
        head = _FIRST_ROW + name
        bucket = Bucket(key, name, (head + _SIDES[0], head + _SIDES[1]))
        if self._has_more is None:
            self._has_more = any(True for _ in self._state.scan(_FIRST_ROW, _END_OF_ROWS))
        if not self._has_more:
            return bucket
        for raw, data in self._state.scan(head, head + b"\xff"):
            if self._changes.has_deleted(raw):
                continue
            _, _, side, time_ms, sequence = decode_key(raw)
            value = self._codecs[side].decode(data[1:])
            bucket.times[side].append(time_ms)
            bucket.rows[side].append(Held(time_ms, sequence, value, data[:1] == _MATCHED))
            self.size += 1
        bucket.due_ms = self._due_ms(bucket)
        return bucket


def join_view(
    codecs: tuple[Codec, Codec],
) -> Callable[[bytes, bytes], tuple[Hashable, object] | None]:
    """Return what a table shows of a join: ``(key, side, time_ms)`` and the value that waits."""

    def view(raw: bytes, data: bytes) -> tuple[Hashable, object] | None:
        kind, *rest = decode_key(raw)
        if kind != ROW:
            return None
        key, side, time_ms, _ = rest
        return (key, ("left", "right")[side], time_ms), codecs[side].decode(data[1:])

    return view


def _raw(bucket: Bucket, side: int, held: Held) -> bytes:
    return bucket.heads[side] + int_part(held.time_ms) + int_part(held.sequence)
