"""The rows of one partition of a table: memory over the store.

A read goes down the layers: ``live`` (used since the last rotation) -> ``old`` (used before it) ->
``staged`` (written as bytes by a pipeline) -> ``pending`` (in the changelog, not yet in the store)
-> the store. A write touches ``live`` and ``dirty`` alone. Invariants: a dirty key is always in
``live``, and newer than what is staged; what ``pending`` holds is newer than the store; ``owner``
is the one scope that works on the rows directly, ``touched`` the serial number of its last event
that did.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from streamapp.errors import InputError, StateError
from streamapp.serde.ordered_keys import JSON_KEY, PLAIN_KEYS, decode_key, encode_key, encode_keys
from streamapp.state.rows import MISSING, Packed

if TYPE_CHECKING:
    from streamapp.state.rows import RowCodec
    from streamapp.state.scope import EventScope
    from streamapp.state.store import Store


#: Bytes that a cached row costs beside its key and value: dict slots, objects, the dirty set.
_ROW_OVERHEAD = 180


@dataclass(slots=True)
class CacheBudget:
    """Bounds the memory of all shards of a worker, and remembers a store that failed.

    ``limit_bytes`` is an estimate of keys, values and their overhead, over both generations.
    Uncommitted rows may exceed it until the next commit, for which ``on_crowded`` asks.
    """

    limit_bytes: int
    live_bytes: int = 0
    fault: StateError | None = None
    shards: list[Shard] = field(default_factory=list)
    on_crowded: Callable[[], None] = lambda: None
    _kept_bytes: int = 0

    def add(self, size: int) -> None:
        """Account for a new row; starts a new generation when half of the budget is in use."""
        self.live_bytes += size
        # Rows that must stay do not count: a rotation that frees nothing would repeat at each row.
        if self.live_bytes - self._kept_bytes > self.limit_bytes // 2:
            self._rotate()
            if self._kept_bytes > self.limit_bytes // 2:
                self.on_crowded()

    @property
    def is_crowded(self) -> bool:
        """Tell whether uncommitted rows alone fill half of the budget: processing must wait."""
        rows = sum(len(s.dirty) + len(s.staged) + len(s.pending) for s in self.shards)
        return rows > 0 and max(rows * _ROW_OVERHEAD, self._kept_bytes) > self.limit_bytes // 2

    def relax(self) -> None:
        """Let go of the rows that had to stay: they are committed now."""
        if self._kept_bytes > self.limit_bytes // 4:
            self._rotate()

    def clear(self) -> None:
        """Forget all that was counted: the shards are gone."""
        self.fault = None
        self.live_bytes = self._kept_bytes = 0

    def _rotate(self) -> None:
        self.live_bytes = self._kept_bytes = sum(shard.rotate() for shard in self.shards)


class Shard:
    """One partition of one table. Called by the event loop only; see the module's invariants."""

    __slots__ = (
        "_budget", "_codec", "_pending_is", "_store", "changes", "dirty", "live", "old", "owner",
        "partition", "partitions", "pending", "prefix", "staged", "table", "touched",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - what a shard is made of
        self,
        table: str,
        partition: int,
        *,
        partitions: int,
        prefix: bytes,
        store: Store,
        codec: RowCodec,
        budget: CacheBudget,
    ) -> None:
        self.table = table
        self.partition = partition
        self.partitions = partitions
        self.prefix = prefix
        self.live: dict[Hashable, object] = {}
        self.old: dict[Hashable, object] = {}
        self.dirty: set[Hashable] = set()
        self.pending: dict[bytes, bytes | None] = {}
        #: What one ``take`` returned, if all that is pending is of it.
        self._pending_is: dict[bytes, bytes | None] | None = None
        #: Rows of an operator or of results that the next commit takes as they are.
        self.staged: dict[bytes, bytes | None] = {}
        self.owner: EventScope | None = None
        self.touched = 0
        #: Counts writes: equal numbers mean that no row has changed.
        self.changes = 0
        self._store = store
        self._codec = codec
        self._budget = budget
        budget.shards.append(self)

    def read(self, key: Hashable) -> object:
        """Return the held value of a row, or ``ABSENT``.

        Raises:
            StateError: The store failed; the worker must rebuild its state.
        """
        value = self.live.get(key, MISSING)
        return self._load(key) if value is MISSING else value

    def write(self, key: Hashable, value: object) -> None:
        """Set the held value of a row (``ABSENT`` deletes it). The caller keeps the way back."""
        before = self.live.get(key, MISSING)
        self.live[key] = value
        self.dirty.add(key)
        self.changes += 1
        if before is MISSING or type(value) is Packed:
            self.account(key, before, value)

    def write_many(self, rows: Mapping[Hashable, object]) -> None:
        """Set the held values of many rows; as ``write`` for each."""
        live = self.live
        resized = []
        if Packed in {*map(type, rows.values())}:
            resized = [(key, live[key]) for key in rows if key in live]
        known = len(live)
        live.update(rows)
        self.dirty.update(rows)
        self.changes += len(rows)
        # What a dict did not have is at its end now; accounting may begin another one.
        new = [*islice(reversed(live), len(live) - known)]
        for key, before in resized:
            self.account(key, before, rows[key])
        for key in new:
            self.account(key, MISSING, rows[key])

    @property
    def is_in_use(self) -> bool:
        """Whether the event in hand of some agent has used the shard."""
        return self.owner is not None and self.owner.serial == self.touched

    def has(self, key: Hashable, value: object) -> bool:
        """Tell whether a row is as this held value."""
        return self._codec.is_same(self.read(key), value)

    def account(self, key: Hashable, before: object, value: object) -> None:
        """Tell the budget of a row that is new in memory, or that has another size."""
        size = _ROW_OVERHEAD + _size(key) if before is MISSING else -_size(before)
        self._budget.add(size + _size(value))

    def restore(self, key: Hashable, before: object, *, was_dirty: bool) -> None:
        """Put a row back to what it was before a write."""
        if before is MISSING:
            self.live.pop(key, None)
        else:
            self.live[key] = before
        if not was_dirty:
            self.dirty.discard(key)

    def take(self) -> dict[bytes, bytes | None]:
        """Take the rows written since the last call, as of the last finished event.

        What the event in hand has written is left for a later call: its rows are taken as they
        were before it. The rows stay readable in ``pending`` until ``flushed``.
        """
        begun = self.begun()
        changes, self.staged = self.staged, {}
        keys = [key for key in self.dirty if key not in begun]
        values = [*map(self.live.__getitem__, keys)]
        for key in self.dirty & begun.keys():
            value, was_dirty = begun[key]
            if was_dirty:
                keys.append(key)
                values.append(self.live[key] if value is MISSING else value)
        changes.update(zip(self._raw_keys(keys), self._codec.pack_all(values), strict=True))
        self.dirty = set(begun)
        self._pending_is = None if self.pending else changes
        self.pending.update(changes)
        return changes

    @property
    def is_changed(self) -> bool:
        """Whether rows were written since the last ``take``."""
        return bool(self.dirty or self.staged)

    def stage(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write rows by their ordered bytes, past the memory of rows; see ``staged``.

        No event may be working on the shard.
        """
        self.staged.update(changes)
        self.changes += len(changes)
        if self.live or self.old:
            # Memory must not know of rows what was true before.
            self.dirty = {key for key in self.dirty if self.raw_key(key) not in changes}
            self.live, self.old = {key: self.live[key] for key in self.dirty}, {}

    def get(self, raw: bytes) -> bytes | None:
        """Return the bytes of a row, past the memory of rows.

        Raises:
            StateError: The store failed; the worker must rebuild its state.
        """
        for layer in (self.staged, self.pending):
            if raw in layer:
                return layer[raw]
        return self._fetch(raw)

    def begun(self) -> dict[Hashable, tuple[object, bool]]:
        """Return the rows that the event in hand has written, as they were before it."""
        return self.owner.before(self) if self.owner is not None else {}

    def flushed(self, changes: dict[bytes, bytes | None]) -> None:
        """Forget pending rows that the store has now, unless they were written again."""
        pending = self.pending
        if changes is self._pending_is:
            pending.clear()
            return
        for key, value in changes.items():
            if pending.get(key, MISSING) is value:
                del pending[key]

    def rotate(self) -> int:
        """Drop the rows that were not used for a whole generation; return the bytes kept live.

        Uncommitted rows stay: they are nowhere else.
        """
        # A row that an event in hand has written must not be found in `old` when it is undone.
        live = self.live
        self.old, self.live = live, {key: live.pop(key) for key in self.dirty}
        return sum(_ROW_OVERHEAD + _size(key) + _size(row) for key, row in self.live.items())

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, object]]:
        """Iterate over ``(raw key, held value)`` with raw keys in ``[start, end)``, in key order.

        Sees the rows as they are at the call; rows of the event in hand included.
        """
        rows = self.pending | self.staged
        keys = [*self.dirty]
        packed = self._codec.pack_all([self.live[key] for key in keys])
        rows.update(zip(self._raw_keys(keys), packed, strict=True))
        memory = sorted(
            ((key, data) for key, data in rows.items() if start <= key < end), reverse=reverse
        )
        scanned = self._scan_store(self.prefix + start, self.prefix + end, reverse=reverse)
        stored = (row for row in scanned if row[0] not in rows)
        for key, data in heapq.merge(memory, stored, key=lambda row: row[0], reverse=reverse):
            if data is not None:
                yield key, self._codec.unpack(data)

    def _scan_store(
        self, start: bytes, end: bytes, *, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        skip = len(self.prefix)
        try:
            for key, data in self._store.scan(start, end, reverse=reverse):
                yield key[skip:], data
        except StateError as exc:
            self._note_fault(exc)
            raise

    def raw_key(self, key: Hashable) -> bytes:
        """Return the ordered bytes of a key as memory holds it."""
        return encode_key(key) if type(key) in PLAIN_KEYS else key[0]  # type: ignore[index]

    def _raw_keys(self, keys: Sequence[Hashable]) -> list[bytes]:
        if {*map(type, keys)} <= PLAIN_KEYS:
            return encode_keys(keys)
        return [*map(self.raw_key, keys)]

    def settled(self, key: Hashable) -> object:
        """Return the held value as of the last finished event: what views outside may see."""
        begun = self.begun()
        if key not in begun:
            return self.read(key)
        value, _ = begun[key]
        return self._beneath(key) if value is MISSING else value

    def _load(self, key: Hashable) -> object:
        value = self.live[key] = self._beneath(key)
        self.old.pop(key, None)
        self._budget.add(_ROW_OVERHEAD + _size(key) + _size(value))
        return value

    def _beneath(self, key: Hashable) -> object:
        value = self.old.get(key, MISSING)
        if value is not MISSING:
            return value
        raw = self.raw_key(key)
        return self._codec.unpack(self.get(raw))

    def _fetch(self, raw: bytes) -> bytes | None:
        try:
            return self._store.get(self.prefix + raw)
        except StateError as exc:
            self._note_fault(exc)
            raise

    def _note_fault(self, exc: StateError) -> None:
        # The program may swallow the exception; the commit must not. A scan that outlives its shard
        # tells of a store that was closed on purpose.
        if self in self._budget.shards:
            self._budget.fault = exc


def memory_key(key: Hashable) -> Hashable:
    """Return the key under which memory holds a row.

    ``1``, ``1.0`` and ``True`` are one key to a ``dict``: all but the plain kinds are held by their
    ordered bytes, in a tuple so that they cannot be taken for a ``bytes`` key.
    """
    return key if type(key) in PLAIN_KEYS else (encode_key(key),)


def written_key(key: Hashable, key_type: object) -> Hashable:
    """Do as ``memory_key`` for a row that is written: its key must come back as ``key_type``.

    Raises:
        InputError: It would not, and each reader of the table would fail.
    """
    held = memory_key(key)
    if isinstance(held, tuple) and held[0][:1] == JSON_KEY:
        try:
            plain_key(held[0], key_type)
        except msgspec.ValidationError as exc:
            msg = f"A {type(key).__name__} cannot be a key of this table: {key!r:.80}"
            raise InputError(msg, hint="Give what the table declares as its key_type") from exc
    return held


def memory_key_of(raw: bytes) -> Hashable:
    """Return the key under which memory holds the row with these ordered bytes."""
    key = decode_key(raw) if raw[:1] != JSON_KEY else None
    return key if type(key) in PLAIN_KEYS else (raw,)


def plain_key(raw: bytes, key_type: object) -> Any:  # noqa: ANN401 - keys are the user's
    """Return the user's key of its ordered bytes."""
    return decode_key(raw, key_type)


def _size(held: object) -> int:
    if type(held) is Packed:
        return len(held.data)
    return len(held) if isinstance(held, (str, bytes)) else 8
