"""What the event in hand has done to tables and topics: all of it counts, or none of it.

An event works *directly* on the shards and keeps the way back in an undo list; that is the fast
path, and it is exact because the event loop runs one event at a time. A scope keeps the shards that
it holds from one event to the next, until another scope wants them. Only an event that awaits in
the middle can meet another one there. Whoever comes second *parks* the first: the first one's
effects leave the shards for an overlay of its own, and from then on it is *tracked*: what it reads
is remembered, and when it finishes, its effects are applied only if all it has read is unchanged.
Otherwise it must run again (optimistic concurrency control; Kung and Robinson 1981).

So a shard never holds half an event together with another one's rows, a commit needs to wait for
nobody, and the result equals some order of whole events. Never blocks, knows no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from itertools import filterfalse, repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from streamapp.state.rows import MISSING

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord
    from streamapp.state.shard import Shard

#: The event in hand of the running task; ``None`` outside of events.
current_scope: ContextVar[EventScope | None] = ContextVar("streamapp_scope", default=None)


class Outcome(Enum):
    """What ``EventScope.finish`` decided."""

    DONE = "the effects are in the shards"
    CONFLICT = "rows it has read were changed meanwhile: run the event again"


class Source(Protocol):
    """The records that an event comes from."""

    @property
    def timestamp_ms(self) -> int:
        """Timestamp of the (first) record in hand."""

    @property
    def now_ms(self) -> int:
        """Event time of the partition at the record: the greatest timestamp up to it."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A source without records: work that the engine itself does at a moment of event time."""

    timestamp_ms: int = 0

    @property
    def now_ms(self) -> int:
        """See ``Source``."""
        return self.timestamp_ms


_NO_SOURCE = Instant()

#: How a row was before a write: its shard and key, the held value, whether it was dirty.
_Row = tuple["Shard", Hashable, object, bool]


class _Rows(NamedTuple):
    """How many rows were before they were written at once; ``fresh`` were not dirty."""

    shard: Shard
    rows: Mapping[Hashable, object]
    before: Sequence[object]
    fresh: Collection[Hashable]


class EventScope:
    """The effects of one event until it is finished or undone; reused for the next event.

    ``partition`` is the source partition of the event: its rows live in the shards of that number.
    ``partitions`` is how many the source topic has. ``outputs`` are records to be written by the
    commit that includes the event. ``serial`` counts the events: a shard whose ``touched`` equals
    it was used by the event in hand. ``undo_list`` is the way back, oldest first. ``is_lost``: the
    partition was taken away in the middle of an event, and what that still does counts for nothing.
    """

    __slots__ = (
        "_overlay", "_reads", "_seen", "held", "is_lost", "outputs", "partition", "partitions",
        "serial", "source", "tracked", "tracks_always", "undo_list",
    )  # fmt: skip

    def __init__(self, *, tracks_always: bool = False) -> None:
        self.partition = -1
        self.partitions = 0
        self.is_lost = False
        self.source: Source = _NO_SOURCE
        self.serial = 1
        self.outputs: list[OutRecord] = []
        self.held: list[Shard] = []
        self.tracks_always = tracks_always
        self.tracked = tracks_always
        self.undo_list: list[_Row | _Rows] = []
        self._overlay: dict[tuple[Shard, Hashable], object] = {}
        self._reads: dict[tuple[Shard, Hashable], object] = {}
        self._seen: list[tuple[Shard, int]] = []

    @property
    def now_ms(self) -> int:
        """Event time of the partition, in ms since 1970."""
        return self.source.now_ms

    def enter(self, source: Source, partition: int, partitions: int) -> None:
        """Begin to work on events of a partition; other partitions have other shards."""
        self.leave()
        self.source, self.partition, self.partitions = source, partition, partitions

    def leave(self) -> None:
        """Work on no partition, and keep no shard. The event in hand must be finished or undone."""
        self.let_go()
        self.partition = -1

    def lose(self) -> None:
        """Take the event in hand back; nothing that its code does from now on has an effect."""
        self.undo()
        self.leave()
        self.is_lost = True

    # --- effects ---------------------------------------------------------------------------------

    def read(self, shard: Shard, key: Hashable) -> object:
        """Return the held value of a row as this event sees it: its own writes first."""
        if not self.tracked:
            self._hold(shard)
            return shard.read(key)
        row = (shard, key)
        mine = self._overlay.get(row, MISSING)
        if mine is MISSING:
            # What was read once stays so: a row that changes and changes back goes unnoticed.
            mine = self._reads.get(row, MISSING)
        if mine is MISSING:
            _clear(shard)
            mine = self._reads[row] = shard.read(key)
        return mine

    def write(self, shard: Shard, key: Hashable, value: object) -> None:
        """Set the held value of a row; ``ABSENT`` deletes it."""
        if self.tracked:
            self._overlay[shard, key] = value
            return
        self._hold(shard)
        self.undo_list.append((shard, key, shard.live.get(key, MISSING), key in shard.dirty))
        shard.write(key, value)

    def live_rows(self, shard: Shard) -> Mapping[Hashable, object]:
        """Return the rows that memory has of a shard, for reading many; none while tracked.

        A key that is not there has to be read by ``read``.
        """
        if self.tracked:
            return {}
        self._hold(shard)
        return shard.live

    def write_many(self, shard: Shard, rows: Mapping[Hashable, object]) -> None:
        """Set the held values of many rows; as ``write`` for each."""
        if self.tracked:
            self._overlay.update(((shard, key), value) for key, value in rows.items())
            return
        self._hold(shard)
        before = [*map(shard.live.get, rows, repeat(MISSING))]
        fresh = {*filterfalse(shard.dirty.__contains__, rows)}
        self.undo_list.append(_Rows(shard, rows, before, fresh))
        shard.write_many(rows)

    def watch(self, shard: Shard) -> dict[Hashable, object]:
        """Note that this event depends on all rows of the shard; return its own unapplied rows."""
        if not self.tracked:
            self._hold(shard)
            return {}
        _clear(shard)
        self._seen.append((shard, shard.changes))
        return {key: value for (of, key), value in self._overlay.items() if of is shard}

    def before(self, shard: Shard) -> dict[Hashable, tuple[object, bool]]:
        """Return ``{key: (value before this event, was dirty then)}`` of a held shard."""
        begun: dict[Hashable, tuple[object, bool]] = {}
        for of, key, value, was_dirty in self._written():
            if of is shard:
                begun.setdefault(key, (value, was_dirty))
        return begun

    # --- the end of an event ---------------------------------------------------------------------

    def finish(self) -> Outcome:
        """Make the effects count. After ``CONFLICT`` nothing of the event is left."""
        if self.tracked and not self._settle():
            self.undo()
            self.tracked = True
            return Outcome.CONFLICT
        self.undo_list.clear()
        self.serial += 1
        if self.tracked:
            self._forget()
        return Outcome.DONE

    def undo(self) -> None:
        """Take all effects back, as if the event had not begun. Safe to repeat."""
        for shard, key, value, was_dirty in reversed([*self._written()]):
            shard.restore(key, value, was_dirty=was_dirty)
        self.undo_list.clear()
        self.outputs.clear()
        self.serial += 1
        if self.tracked:
            self._forget()

    def let_go(self) -> None:
        """Give up all shards; no effect of the event in hand may be left in them."""
        for shard in self.held:
            shard.owner = None
        self.held.clear()

    def yield_to_other(self, shard: Shard) -> None:
        """Leave a shard to another event; parks the event in hand if it has used the shard."""
        if shard.touched == self.serial:
            self._park()
        else:
            shard.owner = None
            self.held.remove(shard)

    def _park(self) -> None:
        """Keep the effects of the event in hand aside and be tracked from now on.

        What was read so far is not known, so any later change of a shard it used is a conflict.
        """
        used = (shard for shard in self.held if shard.touched == self.serial)
        self._seen.extend((shard, shard.changes) for shard in used)
        for shard, key, value, was_dirty in reversed([*self._written()]):
            self._overlay.setdefault((shard, key), shard.live[key])
            shard.restore(key, value, was_dirty=was_dirty)
        self.undo_list.clear()
        self.let_go()
        self.tracked = self.tracks_always = True

    def _written(self) -> Iterator[_Row]:
        """Iterate over the rows of the undo list, oldest first."""
        for entry in self.undo_list:
            if isinstance(entry, _Rows):
                for key, value in zip(entry.rows, entry.before, strict=True):
                    yield entry.shard, key, value, key not in entry.fresh
            else:
                yield entry

    def _hold(self, shard: Shard) -> None:
        if shard.owner is not self:
            _clear(shard)
            shard.owner = self
            self.held.append(shard)
        shard.touched = self.serial

    def _settle(self) -> bool:
        for shard, _ in (*self._overlay, *self._reads):
            _clear(shard)
        if any(shard.changes != changes for shard, changes in self._seen):
            return False
        if not all(shard.has(key, value) for (shard, key), value in self._reads.items()):
            return False
        for (shard, key), value in self._overlay.items():
            shard.write(key, value)
        return True

    def _forget(self) -> None:
        self._overlay.clear()
        self._reads.clear()
        self._seen.clear()
        self.tracked = self.tracks_always


def _clear(shard: Shard) -> None:
    """Make sure that the shard holds finished events only."""
    if shard.owner is not None:
        shard.owner.yield_to_other(shard)
