"""Tables: a mapping that an agent writes and that survives the worker.

``table[key] += 1`` costs no I/O: rows live in memory over the local store, and the commit writes
what changed to the changelog together with the position of the source. Inside an event a table is
the shard of the event's partition; outside of events (timers, pages) it is read-only and spans all
partitions that this worker owns.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from streamapp.core.times import NEVER_MS
from streamapp.errors import ConfigError, EncodeError, PartitionMismatchError, UsageError
from streamapp.serde.ordered_keys import PLAIN_KEYS, encode_key, encode_prefix
from streamapp.state.rows import ABSENT, KEY_ROOM, MISSING, Packed, check_row, row_codec
from streamapp.state.scope import EventScope, current_scope
from streamapp.state.shard import Shard, memory_key, memory_key_of, plain_key, written_key
from streamapp.state.store import prefix_end
from streamapp.state.table_columns import WritesColumns
from streamapp.state.windowed import WindowedTable
from streamapp.state.windowed_grid import WindowGrid, declared

if TYPE_CHECKING:
    from collections.abc import Hashable

    from streamapp.state.rows import RowCodec

_NO_DEFAULT: Any = object()
_FIRST, _LAST = b"", b"\xff" * 9


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The declaration of a table.

    ``default`` makes the value of an absent row on reading; it is not stored. ``ttl_ms`` bounds the
    life of a row since its last write, in the event time of its partition. ``partitions`` is that
    of the source topics; ``None`` takes the application's default. With ``windows``, keys are rows
    of the grid, and ``ttl_ms`` counts from the end of a row's window.
    """

    name: str
    default: Callable[[], Any] | None = None
    key_type: Any = Any
    value_type: Any = Any
    partitions: int | None = None
    ttl_ms: int | None = None
    help: str = ""
    windows: WindowGrid | None = None


class Table(WritesColumns):
    """A keyed, changelogged table; see the module.

    A mutable value that is read is a copy: assign it back to store the change, as with any Faust
    table on RocksDB. Guarantee: after a crash at any moment each row equals what a sequential run
    over the source gives.
    """

    def __init__(self, spec: TableSpec, codec: RowCodec) -> None:
        self.spec = spec
        self.codec = codec
        self._is_lasting = spec.ttl_ms is None
        self._atoms = codec.atoms
        self.shards: dict[int, Shard] = {}
        #: Whether the rows are windows of a pipeline: ``start`` and ``end`` are event times.
        self.holds_windows = False
        #: Bytes of the largest row that the changelog takes, known when the worker starts.
        self.max_bytes: int | None = None
        #: Number of partitions, known when the worker starts.
        self.partitions = spec.partitions or 0
        #: Event time of a partition for readers outside of events, in ms since 1970.
        self.now_ms: Callable[[int], int] = lambda _partition: 0

    @property
    def name(self) -> str:
        """Name of the table, unique in the application."""
        return self.spec.name

    @property
    def help(self) -> str:
        """What the table holds, in the declaration's words."""
        return self.spec.help

    # --- one row ---------------------------------------------------------------------------------

    def __getitem__(self, key: Hashable) -> Any:
        scope = current_scope.get()
        kind = type(key)
        if scope is not None and (kind is str or kind is int) and self._is_lasting:
            shard = self.shards.get(scope.partition)
            if shard is not None and shard.owner is scope:
                shard.touched = scope.serial
                value = shard.live.get(key, MISSING)
                if value is not MISSING and value is not ABSENT:
                    return value if type(value) is not Packed else self.codec.decode(value.data)
        value = self._read(key)
        if value is ABSENT:
            return self.__missing__(key)
        return self._value(value)

    def __missing__(self, key: Hashable) -> Any:
        if self.spec.default is None:
            raise KeyError(key)
        return self.spec.default()

    def __setitem__(self, key: Hashable, value: object) -> None:
        scope = current_scope.get()
        if scope is None:
            raise self._not_in_an_event("written")
        may_share = self._atoms.get(type(value))
        if may_share is None or not may_share(value):
            value = self._pack(key, value, scope)
        if type(key) is str:
            if not key.isascii():
                encode_key(key)  # which refuses what the commit could not write
        elif type(key) not in PLAIN_KEYS:
            key = written_key(key, self.spec.key_type)
        shard = self.shards.get(scope.partition)
        if shard is None or shard.owner is not scope:
            scope.write(self._shard(scope), key, value)
            return
        # What scope.write does, spelled out: this is the busiest line of a worker.
        before = shard.live.get(key, MISSING)
        scope.undo_list.append((shard, key, before, key in shard.dirty))
        shard.live[key] = value
        shard.dirty.add(key)
        shard.changes += 1
        shard.touched = scope.serial
        if before is MISSING or type(value) is Packed:
            shard.account(key, before, value)

    def __delitem__(self, key: Hashable) -> None:
        scope = current_scope.get()
        if scope is None:
            raise self._not_in_an_event("written")
        if self._read(key) is ABSENT:
            raise KeyError(key)
        scope.write(self._shard(scope), memory_key(key), ABSENT)

    def __contains__(self, key: object) -> bool:
        return self._read(key) is not ABSENT

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the row's value, or ``default`` where there is no row: never the table's own."""
        value = self._read(key)
        return default if value is ABSENT else self._value(value)

    def setdefault(self, key: Hashable, default: Any = None) -> Any:
        """Return the row's value; where there is no row, store ``default`` and return it."""
        value = self._read(key)
        if value is not ABSENT:
            return self._value(value)
        self[key] = default
        return default

    def pop(self, key: Hashable, default: Any = _NO_DEFAULT) -> Any:
        """Delete the row and return its value; without a row, ``default`` or ``KeyError``."""
        value = self._read(key)
        if value is ABSENT:
            if default is _NO_DEFAULT:
                raise KeyError(key)
            return default
        del self[key]
        return self._value(value)

    # --- many rows -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._rows(_FIRST, _LAST))

    def __len__(self) -> int:
        return sum(1 for _ in self._rows(_FIRST, _LAST))

    def items(self) -> Iterator[tuple[Any, Any]]:  # type: ignore[override]
        """Iterate over ``(key, value)``, partition by partition, in key order inside of each."""
        return self._rows(_FIRST, _LAST)

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        """Iterate over the values, in the order of ``items``."""
        return (value for _, value in self._rows(_FIRST, _LAST))

    def prefix(self, prefix: str | bytes, *, reverse: bool = False) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows whose ``str`` (or ``bytes``) key begins so, in key order."""
        start = encode_prefix(prefix)
        return self._rows(start, prefix_end(start), reverse=reverse)

    def range(
        self, start: Hashable, end: Hashable, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Iterate over the rows with keys in ``[start, end)``, in key order of each partition."""
        return self._rows(encode_key(start), encode_key(end), reverse=reverse)

    def rows(
        self, partition: int, start: bytes = _FIRST, end: bytes = _LAST, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Any, Any]]:
        """Iterate over ``(raw key, key, value)`` of one partition; there are none if it has gone.

        ``[start, end)`` bounds the raw keys. For views: what an unfinished event has written is
        left out.
        """
        if (shard := self.shards.get(partition)) is None:
            return
        begun = {shard.raw_key(key): shard.settled(key) for key in shard.begun()}
        now_ms = self._time_of(partition)
        for raw, held in _merged(shard.scan(start, end, reverse=reverse), begun, reverse=reverse):
            if start <= raw < end and not self._is_expired(held, now_ms):
                yield raw, plain_key(raw, self.spec.key_type), self._value(held)

    def find(self, key: Hashable) -> Iterator[tuple[int, Any]]:
        """Iterate over ``(partition, value)`` of the owned rows with this key.

        For views: a row lives in the partition of the event that wrote it, so a key that is not the
        topic's may have several. What an unfinished event has written is left out.
        """
        held = key if type(key) in PLAIN_KEYS else memory_key(key)
        return ((partition, self._value(row)) for partition, row in self._found(held))

    def logged(self, partition: int, raw: bytes, data: bytes) -> tuple[Any, Any] | None:
        """Return key and value of a row as the changelog has it; ``None`` to show nothing.

        For views of the changelog, of partitions of other workers too.
        """
        del partition
        return plain_key(raw, self.spec.key_type), self._value(Packed(data))

    def sweep(self, partition: int, now_ms: int, start: bytes, limit: int) -> tuple[int, bytes]:
        """Delete expired rows among the next ``limit`` ones from a raw key on.

        Does nothing while an event that uses the shard is in hand.

        Returns:
            How many were deleted, and the raw key to go on at (empty: from the start).
        """
        shard = self.shards[partition]
        if shard.is_in_use:
            return 0, start
        rows = list(islice(shard.scan(start, _LAST), limit + 1))
        scope = EventScope()
        expired = [raw for raw, held in rows[:limit] if self._is_expired(held, now_ms)]
        for raw in expired:
            scope.write(shard, memory_key_of(raw), ABSENT)
        scope.finish()
        scope.let_go()
        return len(expired), rows[limit][0] if len(rows) > limit else _FIRST

    # --- windows ---------------------------------------------------------------------------------

    def tumbling(self, size: Any, expires: Any = None, *, key_index: bool = False) -> WindowedTable:
        """Make this a table of windows of ``size``, one after the other; see ``hopping``."""
        return self.hopping(size, size, expires, key_index=key_index)

    def hopping(
        self, size: Any, step: Any, expires: Any = None, *, key_index: bool = False
    ) -> WindowedTable:
        """Make this a table of windows of ``size`` that start every ``step``.

        Args:
            size: Length of a window: seconds, "5m" or a ``timedelta``.
            step: From the start of one window to that of the next.
            expires: How far event time may pass the end of a window before its rows are gone;
                ``None`` keeps them for ever.
            key_index: Faust's; without effect, as ``keys()`` needs no index.

        Returns:
            The table through which to read and write.

        Raises:
            ConfigError: A duration is wrong, or the table has a ``ttl`` or windows already.
        """
        del key_index
        spec = self.spec
        if spec.windows is not None or spec.ttl_ms is not None:
            msg = f"Table {self.name} has {'a ttl' if spec.windows is None else 'windows'} already"
            raise ConfigError(msg, hint="Declare windows once, and give them expires, not a ttl")
        windows = declared(self.name, size, step, expires)
        self.spec = replace(spec, windows=windows, ttl_ms=windows.expires_ms)
        self.codec = row_codec(spec.value_type, is_timed=True)
        self._is_lasting, self._atoms = False, self.codec.atoms
        return WindowedTable(self, windows)

    # --- inside ----------------------------------------------------------------------------------

    def _read(self, key: Hashable) -> object:
        if type(key) not in PLAIN_KEYS:
            key = memory_key(key)
        scope = current_scope.get()
        if scope is None:
            return self._find(key)
        shard = self.shards.get(scope.partition)
        if shard is None or shard.owner is not scope:
            shard = self._shard(scope)
        value = scope.read(shard, key)
        if self.spec.ttl_ms is not None and self._is_expired(value, scope.now_ms):
            return ABSENT
        return value

    def _shard(self, scope: EventScope) -> Shard:
        shard = self.shards.get(scope.partition)
        if shard is not None and shard.partitions == scope.partitions:
            return shard
        if scope.partition < 0:
            raise self._not_in_an_event("used")
        msg = (
            f"Table {self.name} has {self.partitions} partitions, but the topic of this event has "
            f"{scope.partitions}"
        )
        raise PartitionMismatchError(
            msg, hint="Give both the same number, or repartition the stream with group_by"
        )

    def _find(self, key: Hashable) -> object:
        return next((held for _, held in self._found(key)), ABSENT)

    def _found(self, key: Hashable) -> Iterator[tuple[int, object]]:
        for partition, shard in self.shards.items():
            held = shard.settled(key)
            if held is not ABSENT and not self._is_expired(held, self._time_of(partition)):
                yield partition, held

    def _time_of(self, partition: int) -> int:
        """Return the event time of a partition, if the table's rows expire: else nobody asks."""
        return self.now_ms(partition) if self.spec.ttl_ms is not None else NEVER_MS

    def _rows(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        scope = current_scope.get()
        if scope is None:
            for partition in sorted(self.shards):
                for _, key, value in self.rows(partition, start, end, reverse=reverse):
                    yield key, value
            return
        shard = self._shard(scope)
        mine = {shard.raw_key(key): value for key, value in scope.watch(shard).items()}
        for raw, held in _merged(shard.scan(start, end, reverse=reverse), mine, reverse=reverse):
            if start <= raw < end and not self._is_expired(held, scope.now_ms):
                yield plain_key(raw, self.spec.key_type), self._value(held)

    def _held(self, key: Hashable, value: object, scope: EventScope) -> object:
        may_share = self._atoms.get(type(value))
        return (
            value if may_share is not None and may_share(value) else self._pack(key, value, scope)
        )

    def _pack(self, key: Hashable, value: object, scope: EventScope) -> Packed:
        try:
            data = self.codec.encode(value)
        except EncodeError as exc:
            msg = f"Table {self.name}, key {key!r:.80}: {exc.message}"
            raise EncodeError(msg, hint=exc.hint) from exc
        if self.max_bytes is not None and len(data) > self.max_bytes - KEY_ROOM:
            check_row(self.name, encode_key(key), data, self.max_bytes)
        windows = self.spec.windows
        lives_from = scope.now_ms if windows is None else windows.end_of(key)
        if self.spec.ttl_ms is None:
            return Packed(data)
        return Packed(lives_from.to_bytes(8, "big", signed=True) + data)

    def _value(self, held: object) -> Any:
        if type(held) is not Packed:
            return held
        return self.codec.decode(held.data if self.spec.ttl_ms is None else held.data[8:])

    def _is_expired(self, held: object, now_ms: int) -> bool:
        if self.spec.ttl_ms is None or type(held) is not Packed:
            return False
        return int.from_bytes(held.data[:8], "big", signed=True) + self.spec.ttl_ms <= now_ms

    def reset_state(self) -> None:
        """Refuse ``faust reset``: a worker may have the state open."""
        msg = "faust reset is not supported"
        hint = "Stop the workers, and delete the folder of the application in the data folder"
        raise UsageError(msg, hint=hint)

    def _not_in_an_event(self, done: str) -> UsageError:
        return UsageError(
            f"Table {self.name} is {done} outside of an event",
            hint="Write tables inside `async for event in stream` of an agent; "
            "a timer or page sends a record to an agent's topic instead",
        )


def _merged(
    rows: Iterator[tuple[bytes, object]], newer: dict[bytes, object], *, reverse: bool
) -> Iterator[tuple[bytes, object]]:
    """Lay ``newer`` rows over sorted ``rows``; leaves absent ones out, keeps the order."""
    if not newer:
        return rows
    older = (row for row in rows if row[0] not in newer)
    laid = heapq.merge(
        older, sorted(newer.items(), reverse=reverse), key=itemgetter(0), reverse=reverse
    )
    return (row for row in laid if row[1] is not ABSENT)
