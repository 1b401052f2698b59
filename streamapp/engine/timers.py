"""Durable timers: set and cancelled inside of events, kept in a table, fired once in effect.

A timer is two rows of the table ``<name>-timers`` in the partition of the event that set it: by key
(when it is due) and by due time and key (its value). So it shares the fate of its event, it is
restored like every row, and looking for what is due reads nothing else. Never fires by itself: see
``timers_run``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from streamapp.core.duration import to_ms
from streamapp.core.timers import Due, DueIndex
from streamapp.core.times import FOREVER_MS, NEVER_MS, plus
from streamapp.errors import UsageError
from streamapp.serde.ordered_keys import decode_key, encode_key
from streamapp.state.rows import ABSENT
from streamapp.state.scope import EventScope, current_scope
from streamapp.state.shard import memory_key

if TYPE_CHECKING:
    from collections.abc import Hashable

    from streamapp.engine.policy import ErrorPolicy
    from streamapp.state.shard import Shard
    from streamapp.state.table import Table

#: The raw keys of rows by due time end before this: they are those of all tuples.
_NO_TUPLE = b"\x51"


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer, as its handler gets it: ``at_ms`` is when it was due, in ms since 1970."""

    key: Any
    at_ms: int
    value: Any = None


@dataclass(frozen=True, slots=True)
class TimerSpec:
    """The declaration of timers. ``clock_ms`` is ``None`` for event time.

    ``on_failure`` is told of each failure before the policy decides.
    """

    name: str
    handler: Callable[[Timer], Awaitable[object]]
    policy: ErrorPolicy
    clock_ms: Callable[[], int] | None = None
    key_type: Any = Any
    on_failure: Callable[[Timers, Exception], Awaitable[object]] | None = None


class Timers:
    """The timers of one name: at most one for each key. Called on the event loop only.

    ``set`` and ``cancel`` are effects of the event in hand: undone, tried again and committed with
    it. Guarantee: the effects of each timer's handler count exactly once, whatever crashes.
    """

    def __init__(self, spec: TimerSpec, table: Table) -> None:
        self.spec = spec
        self.table = table
        self._waiting: dict[int, Waiting] = {}

    @property
    def name(self) -> str:
        """Name of the timers, unique in the application."""
        return self.spec.name

    # --- for agents and handlers -----------------------------------------------------------------

    def set(
        self,
        key: Hashable,
        *,
        at: int | None = None,
        after: str | float | timedelta | None = None,
        value: Any = None,
    ) -> None:
        """Let a timer fire; one that waits under the same key is replaced.

        Args:
            key: Of the kinds of table keys. Timers due at one time fire in the order of keys.
            at: When, in ms since 1970. A time that has passed fires at once, after this event.
            after: How long after now instead ("15m"): after the timestamp of the event in hand, or
                after the time of the clock that the timers go by.
            value: Any JSON value, for the handler.

        Raises:
            UsageError: Outside of an event; neither or both of ``at`` and ``after`` are given.
            EncodeError: The value is none of JSON.
            PartitionMismatchError: The topic of the event has another number of partitions.
        """
        scope = self._scope("set")
        at_ms, raw = self._time(scope, at, after), encode_key(key)
        table = self.table
        before = table.get(raw)
        # First what may be refused: nothing must be half set if the program catches that.
        table[at_ms, raw] = value
        table[raw] = at_ms
        if before is not None and before != at_ms:
            del table[before, raw]
        self.waiting(scope.partition).note(Due(at_ms, raw), scope)

    def cancel(self, key: Hashable) -> bool:
        """Take a timer back; tell whether one was waiting.

        Raises:
            UsageError: Outside of an event.
        """
        self._scope("cancelled")
        raw = encode_key(key)
        at_ms = self.table.get(raw)
        return at_ms is not None and self.remove(Due(at_ms, raw)) is not ABSENT

    def get(self, key: Hashable) -> Timer | None:
        """Return the timer that waits under a key, if one does; also outside of events."""
        raw = encode_key(key)
        at_ms = self.table.get(raw)
        if at_ms is None:
            return None
        return Timer(key, at_ms, self.table.get((at_ms, raw)))

    # --- for what fires them ---------------------------------------------------------------------

    def waiting(self, partition: int) -> Waiting:
        """Return what is known of the timers of an owned partition."""
        shard = self.table.shards[partition]
        found = self._waiting.get(partition)
        if found is None or found.shard is not shard:
            found = self._waiting[partition] = Waiting(self.table, shard)
        return found

    def forget(self) -> None:
        """Let go of what is known of partitions that went."""
        shards = self.table.shards
        self._waiting = {n: at for n, at in self._waiting.items() if shards.get(n) is at.shard}

    def remove(self, due: Due) -> object:
        """Delete a timer as part of the event in hand; return its value, ``ABSENT`` if gone."""
        row = (due.at_ms, due.key)
        value: object = self.table.get(row, ABSENT)
        if value is not ABSENT:
            del self.table[due.key]
            del self.table[row]
        return value

    def timer(self, due: Due, value: object) -> Timer:
        """Return a timer for its handler."""
        return Timer(decode_key(due.key, self.spec.key_type), due.at_ms, value)

    def _scope(self, done: str) -> EventScope:
        scope = current_scope.get()
        if scope is None or scope.partition < 0:
            msg = f"Timer {self.name} is {done} outside of an event"
            raise UsageError(
                msg,
                hint="Timers belong to the partition of an event: set and cancel them inside of "
                "`async for event in stream` of an agent, or in the handler of a timer",
            )
        return scope

    def _time(self, scope: EventScope, at: object, after: Any) -> int:
        if (at is None) is (after is None):
            given = "neither" if at is None else "both"
            msg = f"Timer {self.name} is set with {given} of at and after"
            raise UsageError(msg, hint='Give one: at=<ms since 1970>, or after="15m"')
        if after is not None:
            clock_ms = self.spec.clock_ms
            now_ms = scope.source.timestamp_ms if clock_ms is None else clock_ms()
            return plus(now_ms, to_ms(after))
        if type(at) is not int or not NEVER_MS < at < FOREVER_MS:
            msg = f"Timer {self.name} is set at={at!r}"
            raise UsageError(msg, hint="Times are whole milliseconds since 1970")
        return at


class Waiting:
    """The timers of one partition of one name: which is next.

    The index is told of a timer when the event that set it has ended, well or not: until then
    another event may find no row of it and drop it from the index. Invariant: every row of a
    finished event is in the index, beyond its horizon, or among the fresh ones.
    """

    def __init__(self, table: Table, shard: Shard) -> None:
        self.shard = shard
        self.index = DueIndex()
        self._table = table
        self._fresh: list[tuple[Due, EventScope, int]] = []

    @property
    def is_idle(self) -> bool:
        """Whether no timer waits, whatever the time."""
        return not (self._fresh or self.index) and self.index.horizon is None

    def note(self, due: Due, scope: EventScope) -> None:
        """Note that the event in hand has set a timer."""
        self._fresh.append((due, scope, scope.serial))

    def first(self, now_ms: int) -> Due | None:
        """Return the first timer that is due, as finished events have left it.

        Raises:
            StateError: The store failed.
        """
        self._settle()
        index = self.index
        while True:
            if count := index.wants(now_ms):
                index.load(self._from_horizon(count))
            due = index.first()
            if due is None or due.at_ms > now_ms:
                return None
            if self.shard.settled(memory_key((due.at_ms, due.key))) is not ABSENT:
                return due
            index.discard(due)

    def _settle(self) -> None:
        fresh, self._fresh = self._fresh, []
        for note in fresh:
            due, scope, serial = note
            if scope.serial == serial:
                self._fresh.append(note)
            else:
                self.index.add(due)

    def _from_horizon(self, count: int) -> list[Due]:
        start = encode_key(tuple(self.index.horizon or ()))
        rows = self._table.rows(self.shard.partition, start, _NO_TUPLE)
        return [Due(*key) for _, key, _ in islice(rows, count)]
