"""The thread that polls a member's consumer; see ``member`` for why it has one.

Everything that librdkafka wants to be done between two polls (seek, pause, join again) is done by
this thread, so that no record of before arrives after.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from streamapp.core.batch import TP
from streamapp.errors import NameTakenError, StreamappError
from streamapp.transport.broker import Assigned
from streamapp.transport.kafka.assignment import Eager, Incremental, generation_of
from streamapp.transport.kafka.bounded import Bounded
from streamapp.transport.kafka.errands import Errands
from streamapp.transport.kafka.failures import error_of, failure
from streamapp.transport.kafka.fetched import Fetched
from streamapp.transport.kafka.takeover import claims, end_left_open

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer, Message, TopicPartition

    from streamapp.transport.kafka.cluster import Cluster
    from streamapp.transport.kafka.member import KafkaMember

log = logging.getLogger(__name__)

#: Seconds of one wait for a record: how late a seek is seen by an idle consumer.
_SLICE_S = 0.05
#: Seconds between two looks for changes of the group while nobody wants records. A look may bring a
#: record, which is kept: twenty a second are no memory to speak of.
_BUSY_S = 0.05
#: Seconds between two tries to join a cluster that refuses.
_PAUSE_S = 0.5
#: Part of the rebalance time-out after which a member that did not release has lost its partitions.
_PART = 0.9
_TAKEN = "Another worker began with the same instance_id: each must have one of its own"
#: Seconds in which a connection that broke may be why a worker was silent.
_RECENT_S = 5.0
#: Seconds in which librdkafka tells the epoch of a member, unless it is busy with a rebalance.
_TOLD_S = 1.0
#: What a consumer says about things that pass.
_PASSING = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # a topic of the subscription is not there yet
        KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001 - told by the loss of the partitions
    }
)
_OUT_OF_RANGE = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member wants: the topics of a group."""

    group: str
    topics: frozenset[str]


class Feeder:
    """Joins a group and feeds a member until ``close``."""

    def __init__(
        self,
        member: KafkaMember,
        consumer: Consumer,
        cluster: Cluster,
        subscription: Subscription,
    ) -> None:
        options = cluster.clients.options
        self.paused: frozenset[TP] = frozenset()
        self._member = member
        self._consumer = consumer
        self._cluster = cluster
        self._group = subscription.group
        self._wants = subscription.topics
        self._topics = sorted(cluster.names.theirs(topic) for topic in subscription.topics)
        self._is_classic = options.protocol == "classic"
        self._assignment = Eager(cluster.names) if self._is_classic else Incremental(cluster.names)
        self._limit_s = options.rebalance_timeout_ms * _PART / 1_000
        #: What was asked of this thread; guarded by the member's condition.
        self._wanted: int | None = None
        self._sought: set[TP] = set()
        self._pauses: frozenset[TP] = frozenset()
        #: Why to leave and join again; empty if that is not wanted.
        self._rejoin_for = ""
        #: Whether there are partitions of which the member was not told yet.
        self._is_new = False
        self._metadata: object = None
        self._generation = 0
        self._all: frozenset[TP] = frozenset()
        self._kept: list[Message] = []
        self._errands = Errands(member.changed)
        self._thread = threading.Thread(
            target=self._run, name=f"streamapp-kafka-{self._group}", daemon=True
        )

    # --- called by the member, under its condition ---------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, max_records: int) -> None:
        """Poll once more, for so many records at most."""
        self._wanted = max_records
        self._member.changed.notify_all()

    def seek(self, positions: Mapping[TP, int]) -> None:
        """Read from the member's positions."""
        self._sought |= positions.keys()
        self._member.changed.notify_all()

    def pause(self, tps: frozenset[TP]) -> None:
        """Fetch no more of these."""
        self.paused |= tps

    def resume(self, tps: frozenset[TP]) -> None:
        """Undo ``pause``."""
        self.paused -= tps

    def forget(self) -> None:
        """Drop what was asked for partitions that are gone."""
        self._sought = set()
        self.paused = frozenset()

    def rejoin(self) -> None:
        """Leave and join again: the cluster refused a commit of this member."""
        with self._member.changed:
            self._rejoin_for = "the cluster refused a commit of this worker"
            self._member.changed.notify_all()

    def metadata(self) -> object:
        """Return what names this member's generation in a commit."""
        if not self._is_classic:
            # A member of KIP-848 moves on to new epochs while it keeps its partitions. librdkafka
            # (2.16) may tell none of them in the midst of a rebalance: an old one is refused.
            ask = Bounded(self._note_metadata)
            ask.ends_within(_TOLD_S)
        return self._metadata

    def _note_metadata(self) -> None:
        self._metadata = self._consumer.consumer_group_metadata()

    def store(self, positions: list[TopicPartition], limit_s: float) -> bool:
        """Commit positions by this thread; ``False`` if it was not done in time.

        Raises:
            KafkaException: The group refuses.
        """

        def commit() -> None:
            self._consumer.commit(offsets=positions, asynchronous=False)

        return self._errands.ask(commit, limit_s)

    def close(self) -> None:
        """Leave the group and end the thread; safe to repeat."""
        self._thread.join()

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._join()
            while (wanted := self._next()) is not None:
                try:
                    self._apply()
                    self._feed(wanted)
                    self._publish()
                except (KafkaException, StreamappError) as exc:
                    self._report(exc)
                    self._pause()
        except BaseException as exc:
            log.exception("The thread of a Kafka consumer ended")
            self._report(exc)
            raise
        finally:
            self._consumer.close()

    def _report(self, exc: BaseException) -> None:
        error = error_of(exc)
        if error is not None and error.code() == KafkaError._FATAL:  # noqa: SLF001 - its public name
            # librdkafka's client is of no use any more, and the name belongs to the other one.
            exc = NameTakenError(f"Kafka: {error.str()}", hint=_TAKEN)
        elif isinstance(exc, Exception) and not isinstance(exc, StreamappError):
            exc = failure(exc, f"reading as a member of {self._group}", self._cluster.trouble)
        if isinstance(exc, StreamappError):
            self._member.on_problem(exc)

    def _join(self) -> None:
        """Join, as soon as the cluster lets us."""
        while not self._member.is_closed:
            try:
                self._member.prepare()
                self._subscribe()
            except (KafkaException, StreamappError) as exc:
                self._report(exc)
                self._pause()
            else:
                return

    def _pause(self) -> None:
        with self._member.changed:
            self._member.changed.wait_for(lambda: self._member.is_closed, _PAUSE_S)

    def _subscribe(self) -> None:
        if not self._topics:
            # librdkafka joins no group for nothing, and the engine need not wait for one.
            self._member.on_assigned(Assigned(0, frozenset()), {})
            return
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def _next(self) -> int | None:
        """Wait until there is something to do; ``None`` at the end."""
        member = self._member
        with member.changed:
            member.changed.wait_for(lambda: self._wanted is not None or self._has_work())
            wanted, self._wanted = self._wanted, None
            return None if member.is_closed else wanted or 0

    def _apply(self) -> None:
        """Do what was asked for since the last poll."""
        self._errands.run()
        if self._rejoin_for:
            self._is_new = False
            self._member.on_lost(self._rejoin_for)
            self._rejoin_for = ""
            self._consumer.unsubscribe()
            self._subscribe()
        with self._member.changed:
            sought, self._sought = self._sought, set()
            positions = self._member.positions
            paused = self.paused
        names = self._cluster.names
        if sought:
            self._kept = [one for one in self._kept if self._tp(one) not in sought]
            self._assignment.read(self._consumer, positions, sought)
            self._pauses = self._pauses - (positions.keys() if self._is_classic else sought)
        pause, resume = paused & positions.keys() - self._pauses, self._pauses - paused
        if pause:
            self._consumer.pause([names.place(tp) for tp in pause])
        if resume & positions.keys():
            self._consumer.resume([names.place(tp) for tp in resume & positions.keys()])
        self._pauses = paused & positions.keys()

    def _feed(self, wanted: int) -> None:
        if not wanted:
            message = self._consumer.poll(0)
            if message is not None:
                self._kept.append(message)
            with self._member.changed:
                self._member.changed.wait_for(self._is_pressing, _BUSY_S)
            return
        messages, self._kept = self._kept, []
        first = self._consumer.poll(0 if messages else _SLICE_S)
        if first is not None:
            messages.append(first)
        fetched = Fetched(self._cluster.names)
        if messages:
            fetched.add(messages)
            fetched.fill(self._consumer, wanted - len(messages))
        self._member.on_batches(fetched.batches())
        for message in fetched.errors:
            if (error := message.error()) is not None:
                self._on_error(message, error)

    def _is_pressing(self) -> bool:
        return bool(self._wanted or self._sought or self._has_work())

    def _has_work(self) -> bool:
        asked = self._rejoin_for or self._errands or self._member.is_closed
        return bool(asked or self._is_new)

    def _on_error(self, message: Message, error: KafkaError) -> None:
        if error.code() in _OUT_OF_RANGE:
            self._relocate(self._tp(message))
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and not self._generation:
            # librdkafka joins when a topic is there; the engine need not wait for that.
            self._member.on_assigned(Assigned(0, frozenset()), {})
        elif error.code() not in _PASSING and not error.retriable():
            raise KafkaException(error)

    def _relocate(self, tp: TP) -> None:
        """Go on where records are: retention was faster, or the end of the log was lost."""
        at = self._member.positions.get(tp, 0)
        there = self._cluster.topics.offsets([tp])[tp]
        start = min(max(at, there.earliest), there.end)
        log.warning("%s/%d: no record at offset %d, reading goes on at %d", *tp, at, start)
        if start < at:
            # Agents take what is before ``at`` for done, until they are assigned the log anew.
            self._rejoin_for = f"{tp.topic} was made anew, or has lost its end"
        else:
            self._member.seek({tp: start})

    def _tp(self, message: Message) -> TP:
        topic = (message.topic() or "").removeprefix(self._cluster.names.prefix)
        return TP(topic, message.partition() or 0)

    # --- what librdkafka calls in a poll ---------------------------------------------------------

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        new = frozenset(map(self._cluster.names.tp, places))
        if not self._is_classic and new and self._all:
            self._let_go()
        self._all = new if self._is_classic else self._all | new
        self._assignment.take(consumer, places)
        self._metadata = consumer.consumer_group_metadata()
        self._generation = (
            generation_of(self._metadata) if self._is_classic else self._generation + 1
        )
        self._is_new = True

    def _publish(self) -> None:
        """Tell the member what it has; until this succeeds, it is tried again after each poll."""
        if not self._is_new:
            return
        end_left_open(self._cluster, self._group, self._all)
        own = claims(self._cluster, self._group, self._member.id, self._all)
        self._member.claim(own)
        counts = self._cluster.topics.counts(self._wants)
        self._pauses = frozenset()
        self._is_new = False
        self._member.on_assigned(Assigned(self._generation, self._all, counts), own)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._let_go()
        self._assignment.give(consumer, places)
        if self._is_classic:
            self._all = frozenset()
            return
        self._all -= frozenset(map(self._cluster.names.tp, places))
        if self._all and not self._member.is_closed:
            self._generation += 1
            self._assignment.take(consumer, [])
            self._is_new = True

    def _let_go(self) -> None:
        self._kept = []
        self._is_new = False
        begun = time.monotonic()
        if not self._member.on_revoked(self._limit_s, self._errands):
            self._generation += 1
            seconds = time.monotonic() - begun
            self._member.on_lost(f"it held on to its partitions for {seconds:.0f} s")

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._kept = []
        self._is_new = False
        self._generation += 1
        # Silent in both directions, maybe: no connection of that time is waited for.
        self._cluster.renew()
        reason = self._cluster.trouble.of_last(_RECENT_S)
        self._member.on_lost("it was silent too long" + (f"; {reason}" if reason else ""))
        self._assignment.give(consumer, places)
        self._all = frozenset()
