"""The records that an agent has in hand: a run of decoded records and how far it is done.

``Chunk`` belongs to an agent without concurrency: one run, worked on in order. ``Slot`` belongs to
an agent with ``concurrency`` above 1: one event (or one ``take``) among several that are worked on
at once and *retire* in the order of their offsets, so that the state of a table is always that of a
prefix of the partition. Neither knows tasks nor brokers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from streamapp.core.columned import Columned, all_values, listed
from streamapp.core.int_columns import all_ints, greatest
from streamapp.serde.codecs import Bad
from streamapp.state.scope import EventScope, Outcome

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Sequence

    from streamapp.core.batch import TP, RecordBatch
    from streamapp.serde.codecs import Decoded


#: Records from one question for the event time to the next from which on those between are passed
#: over at once.
_FAR: Final = 64


class Chunk:
    """A run of records of one partition.

    Records ``[0, at)`` are done, ``[at, given)`` are in the agent's hands (none when equal),
    ``[given, end)`` wait. ``end`` is lowered when the partition is about to be given up.
    """

    __slots__ = (
        "_ends", "_failed_at", "_peak_at", "_peak_ms", "_running", "at", "batch", "end", "failures",
        "given", "has_bad", "start_ms", "times", "values",
    )  # fmt: skip

    def __init__(
        self,
        batch: RecordBatch,
        values: Sequence[object],
        start_ms: int,
        times: Sequence[int] | None = None,
        *,
        has_bad: bool = False,
    ) -> None:
        self.batch = batch
        #: Whether any of the values may be ``Bad``.
        self.has_bad = has_bad
        #: Event time of the partition before the first record.
        self.start_ms = start_ms
        #: Event time of each record: by default its timestamp. ``NEVER_MS``: it has none.
        self.times: Sequence[int] = batch.timestamps if times is None else times
        #: The event time at each record, for whom asks record by record; and at the one that was
        #: asked for last by whom asks in strides.
        self._running: list[int] | None = None
        self._peak_at, self._peak_ms = -1, start_ms
        self.values = values
        self.at = 0
        self.given = 0
        self.end = len(values)
        self.failures = 0
        self._failed_at = -1
        #: Where the next groups end, the last one first: records before them failed together.
        self._ends: list[int] = []

    @property
    def tp(self) -> TP:
        """The partition of the records."""
        return self.batch.tp

    @property
    def is_held(self) -> bool:
        """Whether the agent has records in hand that are not done."""
        return self.given > self.at

    @property
    def position(self) -> int:
        """Offset of the first record that is not done."""
        batch = self.batch
        return batch.offsets[self.at] if self.at < len(batch.offsets) else batch.next_offset

    @property
    def timestamp_ms(self) -> int:
        """See ``state.scope.Source``."""
        return self.times[self.at]

    @property
    def value(self) -> object:
        """Value of the (first) record in hand: tables that are relative to a field ask for it."""
        return self.values[self.at]

    @property
    def bad(self) -> Bad | None:
        """What is wrong with the record at ``at``, if it is bad."""
        first = self.values[self.at] if self.has_bad else None
        return first if isinstance(first, Bad) else None

    @property
    def now_ms(self) -> int:
        """See ``state.scope.Source``."""
        return self.time_at(self.at)

    def time_at(self, index: int) -> int:
        """Return the event time of the partition at a record; -1 is before the first."""
        if index == self._peak_at:
            return self._peak_ms
        if self._running is None:
            behind = index - self._peak_at
            if behind >= _FAR or index == len(self.times) - 1:
                passed = self.times[self._peak_at + 1 : index + 1]
                self._peak_at, self._peak_ms = index, max(self._peak_ms, greatest(passed))
                return self._peak_ms
            self._running = list(accumulate(self.times, max, initial=self.start_ms))
        return self._running[index + 1]

    def values_of(self, start: int, stop: int) -> Sequence[object]:
        """Return the values of the records ``[start, stop)``: not to be changed."""
        # A copy would touch each of them once more.
        values = self.values
        return values if not start and stop == len(values) else values[start:stop]

    def renew(self, decode: Callable[[RecordBatch], Decoded], start: int, stop: int) -> None:
        """Decode records again that are handed out again: their values may have been changed.

        The list stays the same, as a stream goes through it.
        """
        if start >= stop or (isinstance(self.values, Columned) and not self.values.is_made):
            return
        had, values = listed(self.values), decode(self.batch.part(start, stop)).values
        # What has no event time stays bad.
        had[start:stop] = [
            old if old.__class__ is Bad else new
            for old, new in zip(had[start:stop], values, strict=True)
        ]

    def most(self, wanted: int) -> int:
        """Return how many records the next group may have, if it may: what was split stays so."""
        while self._ends and self._ends[-1] <= self.at:
            self._ends.pop()
        return min(wanted, self._ends[-1] - self.at) if self._ends else wanted

    def run(self, most: int) -> int:
        """Return where a run of up to ``most`` records from ``at`` ends; a bad one is alone."""
        at, limit = self.at, min(self.at + most, self.end)
        if not self.has_bad:
            return limit
        if self.values[at].__class__ is Bad:
            return at + 1
        kinds = [*map(type, self.values[at:limit])]
        return at + (kinds.index(Bad) if Bad in kinds else len(kinds))

    def extend(self, more: Sequence[Chunk]) -> None:
        """Append the records of the chunks that follow."""
        self.batch = self.batch.joined(*(one.batch for one in more))
        self.has_bad = self.has_bad or any(one.has_bad for one in more)
        self.values = all_values([self.values, *(one.values for one in more)])
        self.times = all_ints([self.times, *(one.times for one in more)])
        self.end = len(self.values)
        self._running = None

    def drop_done(self) -> RecordBatch | None:
        """Forget the records that are done, and return them; the next one is number 0 again."""
        done = self.at
        if not done or done == len(self.values):
            return None
        self.start_ms = self.time_at(done - 1)
        dropped, self.batch = self.batch.split(done)
        self.values, self.times = self.values[done:], self.times[done:]
        self.at, self.given, self.end = 0, self.given - done, self.end - done
        self._ends = [end - done for end in self._ends]
        self._running, self._failed_at = None, self._failed_at - done
        self._peak_at, self._peak_ms = -1, self.start_ms
        return dropped

    def cut_off(self) -> Chunk:
        """Return the records that nobody has yet as a chunk of their own; there are such."""
        if not self.at:
            return self
        at, start_ms = self.at, self.time_at(self.at - 1)
        self.batch, waiting = self.batch.split(at)
        self.end = at
        return Chunk(waiting, self.values[at:], start_ms, self.times[at:], has_bad=self.has_bad)

    def fail(self) -> int:
        """Note a failure of the records in hand; return how often they have failed in a row."""
        self.failures = self.failures + 1 if self._failed_at == self.at else 1
        self._failed_at = self.at
        return self.failures

    def split(self, size: int = 1) -> None:
        """Hand the records in hand out again, so many at a time, each group with its own tries."""
        self._ends += [self.given, *reversed(range(self.at + size, self.given, size))]
        self.given = self.at
        self._failed_at = -1

    def advance(self) -> None:
        """The record at ``at`` is done; more that were in hand with it are not."""
        self.at += 1
        self.given = self.at

    def cut_short(self) -> None:
        """Hand out no more records than are in hand now."""
        self.end = max(self.given, self.at)


@dataclass(slots=True, eq=False)
class Slot:
    """Records ``[start, stop)`` of a chunk with the effects they have, until they retire."""

    chunk: Chunk
    start: int
    stop: int
    scope: EventScope
    #: In whose hands the records are; ``None`` when they are finished or must run again.
    task: Task[Any] | None = None
    is_finished: bool = False
    is_revoked: bool = False
    failures: int = 0
    conflicts: int = 0

    @property
    def batch(self) -> RecordBatch:
        """The batch that the records are of."""
        return self.chunk.batch

    @property
    def values(self) -> Sequence[object]:
        """The records' values."""
        return self.chunk.values[self.start : self.stop]

    @property
    def timestamp_ms(self) -> int:
        """See ``state.scope.Source``."""
        return self.chunk.times[self.start]

    @property
    def value(self) -> object:
        """See ``Chunk.value``."""
        return self.chunk.values[self.start]

    @property
    def now_ms(self) -> int:
        """See ``state.scope.Source``."""
        return self.chunk.time_at(self.start)

    @property
    def reached_ms(self) -> int:
        """Event time of the partition behind the records."""
        return self.chunk.time_at(self.stop - 1)

    @property
    def next_offset(self) -> int:
        """Offset that follows the records."""
        batch = self.batch
        return batch.offsets[self.stop] if self.stop < len(batch) else batch.next_offset


def open_slot(chunk: Chunk, start: int, stop: int, partitions: int) -> Slot:
    """Begin records of a chunk, in a scope of their own; the topic has so many ``partitions``."""
    scope = EventScope(tracks_always=True)
    slot = Slot(chunk, start, stop, scope)
    scope.enter(slot, chunk.tp.partition, partitions)
    return slot


@dataclass(slots=True)
class Window:
    """The slots of one partition that have begun, in offset order; ``position`` is the first's."""

    position: int
    time_ms: int
    slots: deque[Slot] = field(default_factory=deque)

    def split(self, slot: Slot, size: int = 1) -> list[Slot]:
        """Replace a slot of several records by slots of ``size`` each; return these."""
        at = self.slots.index(slot)
        del self.slots[at]
        parts = [
            open_slot(slot.chunk, start, min(start + size, slot.stop), slot.scope.partitions)
            for start in range(slot.start, slot.stop, size)
        ]
        for part in reversed(parts):
            self.slots.insert(at, part)
        return parts

    def retire(self) -> tuple[list[Slot], Slot | None]:
        """Let finished slots at the head take effect, in order.

        Returns:
            The retired slots, and the head if it must run again because rows that it has read were
            changed by slots before it (or by another agent).
        """
        retired: list[Slot] = []
        while self.slots and self.slots[0].is_finished:
            head = self.slots[0]
            if head.scope.finish() is Outcome.CONFLICT:
                head.is_finished = False
                head.conflicts += 1
                return retired, head
            self.slots.popleft()
            self.position, self.time_ms = head.next_offset, head.reached_ms
            retired.append(head)
        return retired, None
