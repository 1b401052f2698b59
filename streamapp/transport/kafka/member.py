"""One worker in a group: its consumer, polled by a thread of its own, and its commits.

librdkafka asks for partitions back in the middle of a poll, and takes the return of that call for
the answer. So the consumer is polled by a thread that waits there until ``release``, while
librdkafka goes on telling the group that the worker lives, and ``poll`` waits for what that thread
brings. It polls only while somebody polls the member: one that hangs is evicted after
``rebalance_timeout``.

Generations are Kafka's own (classic protocol): the group counts every rebalance, also those that
went on without this member, so the next one means that nobody else had the partitions between. With
KIP-848 the member counts for itself: one up for a change that it saw through, two after a loss.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, RecordBatch
from streamapp.errors import FencedError, StreamappError
from streamapp.transport.broker import Assigned, Lost, Position, Revoking
from streamapp.transport.kafka.feeder import Feeder
from streamapp.transport.kafka.phases import NEXT, OWNERS, Phase, Step
from streamapp.transport.kafka.positions import FENCE, write_note
from streamapp.transport.kafka.records import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import TopicPartition

    from streamapp.core.batch import OutRecord
    from streamapp.transport.broker import MemberEvent
    from streamapp.transport.kafka.errands import Errands
    from streamapp.transport.kafka.guarantees import Commits
    from streamapp.transport.kafka.names import Names

log = logging.getLogger(__name__)


class KafkaMember:
    """A ``Member``. ``poll`` is called by one thread, everything else by any."""

    def __init__(
        self,
        member_id: str,
        names: Names,
        commits: Commits,
        check: Callable[[Iterable[TP]], None],
        make_feeder: Callable[[KafkaMember], Feeder],
    ) -> None:
        self._id = member_id
        self._names = names
        self._commits = commits
        self._check = check
        self.changed = threading.Condition()
        self.phase = Phase.OUT
        self._owned: frozenset[TP] = frozenset()
        #: Next offset of each partition that was sought since its assignment.
        self._positions: dict[TP, int] = {}
        #: What the group has committed, as far as this member knows: it fences commits of records.
        self._committed: dict[TP, TopicPartition] = {}
        self._events: list[MemberEvent] = []
        self._batches: list[RecordBatch] = []
        self._problem: StreamappError | None = None
        self._is_woken = False
        self._feeder = make_feeder(self)
        self._feeder.start()

    @property
    def id(self) -> str:
        """See ``Member.id``; the ``instance_id`` if there is one."""
        return self._id

    @property
    def is_closed(self) -> bool:
        """Whether ``leave`` was called."""
        return self.phase is Phase.LEFT

    # --- what the engine calls ---------------------------------------------------------------

    def poll(self, timeout_s: float, max_records: int) -> list[MemberEvent]:
        """See ``Member.poll``; events of the group come alone; empty at once after ``leave``.

        Raises:
            BrokerError: The cluster refuses the member (rights, credentials); it goes on trying.
        """
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while self.phase is not Phase.LEFT:
                found = self._ready(max_records)
                left_s = deadline - time.monotonic()
                if found or self._is_woken or left_s <= 0:
                    self._feeder.ask(0 if self._batches else max_records)
                    self._is_woken = False
                    return found
                self._feeder.ask(max_records)
                self.changed.wait(left_s)
        return []

    def _ready(self, max_records: int) -> list[MemberEvent]:
        if self._problem is not None:
            problem, self._problem = self._problem, None
            raise problem
        if self._events:
            events, self._events = self._events, []
            return events
        if self.phase is not Phase.OWNING or not max_records:
            return []
        paused = self._feeder.paused
        ready: list[MemberEvent] = []
        held: list[RecordBatch] = []
        for batch in self._batches:
            part, rest = split(batch, 0 if batch.tp in paused else max_records)
            if part is not None:
                ready.append(part)
                max_records -= len(part)
            if rest is not None:
                held.append(rest)
        self._batches = held
        return ready

    def seek(self, positions: Mapping[TP, int]) -> None:
        """See ``Member.seek``."""
        with self.changed:
            sought = {TP(*tp): at for tp, at in positions.items() if tp in self._owned}
            if self.phase is not Phase.OWNING or not sought:
                return
            self._positions.update(sought)
            self._batches = [batch for batch in self._batches if batch.tp not in sought]
            self._feeder.seek(sought)

    def pause(self, tps: Iterable[TP]) -> None:
        """See ``Member.pause``."""
        with self.changed:
            self._feeder.pause(frozenset(map(TP._make, tps)) & self._owned)

    def resume(self, tps: Iterable[TP]) -> None:
        """See ``Member.resume``."""
        with self.changed:
            self._feeder.resume(frozenset(map(TP._make, tps)))
            self.changed.notify_all()

    def release(self) -> None:
        """See ``Member.release``; too late (after an eviction) it does nothing."""
        with self.changed:
            if self.phase is Phase.REVOKING:
                self._step(Step.RELEASE)
                self._drop()

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """See ``SendsEarly.send``."""
        return self._commits.send(records)

    def commit(self, records: Sequence[OutRecord], positions: Mapping[TP, Position]) -> list[int]:
        """See ``Member.commit``; nothing that can be read was written if it raises.

        The offsets of what was refused are gone. A commit of records alone is fenced by committing
        a position once more; a member that owns nothing has nothing to be fenced from.

        Raises:
            UnknownTopicError: A record's partition does not exist.
            BrokerUnavailableError: The outcome is not known: rebuild from what the cluster has.
        """
        # Before the look at what is owned: a generation that came after it would fence nothing. And
        # not under the condition, for which librdkafka's thread may be waiting in a rebalance.
        metadata = self._feeder.metadata()
        with self.changed:
            if self.phase not in OWNERS or not positions.keys() <= self._positions.keys():
                msg = f"Member {self._id} does not own all of {sorted(positions)}"
                raise FencedError(msg, hint="Drop the state of those partitions")
            places = [
                self._names.place(tp, at, write_note(self._id, note))
                for tp, (at, note) in positions.items()
            ] or self._fence()
        self._check(record.tp for record in records)
        if not records and not positions:
            return []
        try:
            offsets = self._commits.commit(records, places, metadata)
        except FencedError:
            self._feeder.rejoin()
            raise
        with self.changed:
            self._committed.update((self._names.tp(place), place) for place in places)
        return offsets

    def _fence(self) -> list[TopicPartition]:
        """Return a position that is true already, for the group to refuse if we are out of it."""
        for tp, at in self._positions.items():
            known = self._committed.get(tp)
            return [known or self._names.place(tp, at, write_note(self._id, FENCE))]
        return []

    def wake(self) -> None:
        """See ``Member.wake``."""
        with self.changed:
            self._is_woken = True
            self.changed.notify_all()

    def leave(self) -> None:
        """See ``Member.leave``; waits until the group knows."""
        with self.changed:
            self._step(Step.LEAVE)
            self._drop()
            self._events = []
        self._feeder.close()
        self._commits.close()

    # --- what the feeder's thread tells --------------------------------------------------------

    def prepare(self) -> None:
        """Be ready to commit: a member that is not would hold partitions for nothing.

        Raises:
            BrokerError: The cluster refuses or cannot be reached.
        """
        self._commits.open()

    def store(self, places: list[TopicPartition], limit_s: float) -> bool:
        """See ``Feeder.store``."""
        return self._feeder.store(places, limit_s)

    def claim(self, places: Mapping[TP, TopicPartition]) -> None:
        """Leave this member's name with the positions, before it leaves anything half written."""
        try:
            self._commits.claim(list(places.values()), self._feeder.metadata())
        except StreamappError as exc:
            # Its own first commit says so too: until then a takeover from it may be slow.
            log.info("Partitions were not claimed: %s", exc)

    def on_assigned(self, event: Assigned, committed: Mapping[TP, TopicPartition]) -> None:
        """Take over; ``committed`` are the group's positions as they are written."""
        with self.changed:
            if self.phase is Phase.LEFT:
                return
            self._step(Step.ASSIGN)
            self._drop()
            self._owned = event.tps
            self._committed = dict(committed)
            self._events.append(event)

    def on_revoked(self, limit_s: float, errands: Errands) -> bool:
        """Say that partitions must go, and wait for ``release``; ``False`` if it did not come.

        Called by the thread that runs the errands: the last commit may be one.
        """
        deadline = time.monotonic() + limit_s
        with self.changed:
            if self.phase is not Phase.OWNING or not self._owned:
                return True
            self._step(Step.REVOKE)
            self._batches = []
            self._events.append(Revoking(self._owned))
            self.changed.notify_all()
        while time.monotonic() < deadline:
            errands.run()
            with self.changed:
                left_s = deadline - time.monotonic()
                self.changed.wait_for(lambda: bool(errands) or self._has_let_go, left_s)
                if self._has_let_go:
                    return True
        return False

    @property
    def _has_let_go(self) -> bool:
        return self.phase is not Phase.REVOKING

    def on_lost(self, reason: str) -> None:
        """Drop everything: the group went on."""
        with self.changed:
            if self.phase not in OWNERS:
                return
            self._step(Step.LOSE)
            self._events = [Lost(self._owned, reason)]
            self._drop()
        self._commits.abandon()

    def on_batches(self, batches: Iterable[RecordBatch]) -> None:
        """Take what was read; what came after a loss or below a seek is not ours any more."""
        with self.changed:
            if self.phase is not Phase.OWNING:
                return
            for batch in batches:
                at = self._positions.get(batch.tp)
                if at is not None and batch.next_offset > at:
                    self._positions[batch.tp] = batch.next_offset
                    self._batches.append(batch)
            self.changed.notify_all()

    def on_problem(self, problem: StreamappError) -> None:
        """Let the next ``poll`` raise it."""
        with self.changed:
            self._problem = problem
            self.changed.notify_all()

    @property
    def positions(self) -> dict[TP, int]:
        """Where reading is, in each partition that was sought."""
        return dict(self._positions)

    def _step(self, step: Step) -> None:
        self.phase = NEXT[self.phase, step]
        self.changed.notify_all()

    def _drop(self) -> None:
        self._owned = frozenset()
        self._positions = {}
        self._batches = []
        self._feeder.forget()
