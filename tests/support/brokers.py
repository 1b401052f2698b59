"""What the broker suites share: brokers to test, and a loop that drives group members."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition
from support import kafka
from support.kafka_wire import remove_member

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.transport.broker import Assigned, Lost, Position, Revoking
from streamapp.transport.kafka import KafkaBroker, KafkaOptions
from streamapp.transport.memory import MemoryBroker, memory_broker
from streamapp.transport.sqlite import SqliteBroker
from streamapp.transport.sqlite.log import Place
from streamapp.transport.sqlite.member import SqliteMember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from streamapp.transport.broker import Broker, Member, MemberEvent

DEADLINE_S = 20.0


class Brokers:
    """One broker's storage in a folder: how to open it, and what can befall it from outside.

    ``is_dense``: offsets have no holes. Kafka's commits take some of their own, so its ends tell
    nothing about records. ``reads_ahead``: a reader may have fetched what is deleted.
    ``tells_generation``: also to those outside of a group. ``earliest_ms``: earliest time of a
    record. ``examples``: of the model test, each on a new storage.
    """

    is_dense = True
    reads_ahead = False
    tells_generation = True
    earliest_ms = 0
    examples = 25

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: list[Broker] = []

    def at(self, folder: Path) -> Brokers:
        """Return the same kind of broker with another, empty storage."""
        return type(self)(folder)

    def open(self) -> Broker:
        """Open one more handle; ``close_all`` closes it."""
        self._opened.append(self._open())
        return self._opened[-1]

    def _open(self) -> Broker:
        raise NotImplementedError

    def close_all(self) -> None:
        while self._opened:
            self._opened.pop().close()

    def evict(self, broker: Broker, member: Member) -> None:
        """End a member's session as if it had hung too long."""
        raise NotImplementedError

    def trim(self, broker: Broker, tp: TP, before: int) -> None:
        """Let retention delete the records of a partition below ``before``, or not quite all."""
        raise NotImplementedError


class MemoryBrokers(Brokers):
    def _broker(self) -> MemoryBroker:
        return memory_broker(str(self.folder))

    def _open(self) -> Broker:
        return self._broker()

    def evict(self, broker: Broker, member: Member) -> None:  # noqa: ARG002 - one for all
        self._broker().evict(member.id)

    def trim(self, broker: Broker, tp: TP, before: int) -> None:  # noqa: ARG002 - one for all
        self._broker().trim(tp, before)


class SqliteBrokers(Brokers):
    def _open(self) -> Broker:
        return SqliteBroker(self.folder)

    def evict(self, broker: Broker, member: Member) -> None:
        assert isinstance(broker, SqliteBroker)
        assert isinstance(member, SqliteMember)
        membership = member._membership
        broker._groups.evict(membership.group, membership.peer)

    def trim(self, broker: Broker, tp: TP, before: int) -> None:
        assert isinstance(broker, SqliteBroker)
        topic = broker._topics.find(tp.topic)
        assert topic is not None
        broker._cleaner.delete_before(Place(topic.tid, tp.partition), before)


class KafkaBrokers(Brokers):
    """One real broker for all; a storage is a prefix of names."""

    is_dense = False
    reads_ahead = True
    tells_generation = False
    earliest_ms = 1
    examples = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._cluster = kafka.shared()
        self.servers = self._cluster.bootstrap
        self.prefix = f"{uuid.uuid4().hex[:8]}."

    def _open(self) -> Broker:
        options = KafkaOptions(self.servers, prefix=self.prefix)
        return KafkaBroker(options)

    def evict(self, broker: Broker, member: Member) -> None:
        assert isinstance(broker, KafkaBroker)
        for name in broker.groups():
            described = broker._cluster.admin.client.describe_consumer_groups([self.prefix + name])
            for one in described[self.prefix + name].result(DEADLINE_S).members:
                if one.client_id.partition("@")[0] == member.id:
                    remove_member(self._cluster.nodes[0].port, self.prefix + name, one.member_id)

    def trim(self, broker: Broker, tp: TP, before: int) -> None:
        assert isinstance(broker, KafkaBroker)
        place = TopicPartition(self.prefix + tp.topic, tp.partition, before)
        for future in broker._cluster.admin.client.delete_records([place]).values():
            future.result(DEADLINE_S)


#: Every broker that the contract suites run over; a new one is one more entry.
KINDS: dict[str, type[Brokers]] = {
    "memory": MemoryBrokers,
    "sqlite": SqliteBrokers,
    "kafka": KafkaBrokers,
}


def record(tp: TP, key: bytes | None, value: bytes | None, timestamp_ms: int = 1_000) -> OutRecord:
    return OutRecord(tp, key, value, timestamp_ms)


def numbered(tp: TP, count: int, first: int = 0) -> list[OutRecord]:
    return [record(tp, b"k%d" % i, b"v%d" % i, 1_000 + i) for i in range(first, first + count)]


def read_all(broker: Broker, tp: TP, offset: int = 0) -> list[tuple[int, bytes | None]]:
    """Return offset and value of everything in the partition from ``offset`` on."""
    earliest, end = broker.offsets([tp])[tp]
    reader = broker.reader()
    rows: list[tuple[int, bytes | None]] = []
    if end == earliest:
        return rows
    try:
        reader.assign({tp: offset})
        deadline = time.monotonic() + DEADLINE_S
        while reader.positions()[tp] < end and time.monotonic() < deadline:
            for batch in reader.poll(0.05, 1_000):
                rows += zip(batch.offsets, batch.values, strict=True)
    finally:
        reader.close()
    return rows


@dataclass
class Worker:
    """A member driven by the test's own thread; answers the group as the engine would."""

    member: Member
    owned: frozenset[TP] = frozenset()
    generation: int = 0
    answers: bool = True
    events: list[MemberEvent] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    start: Callable[[Iterable[TP]], Mapping[TP, int]] = lambda tps: dict.fromkeys(tps, 0)

    def step(self, timeout_s: float = 0.02) -> list[MemberEvent]:
        events = self.member.poll(timeout_s, 500)
        self.events += events
        for event in events:
            self._take(event)
        return events

    def _take(self, event: MemberEvent) -> None:
        match event:
            case RecordBatch():
                self.values += event.values
            case Assigned():
                self.owned, self.generation = event.tps, event.generation
                self.member.seek(self.start(event.tps))
            case Revoking():
                if self.answers:
                    self.owned = frozenset()
                    self.member.release()
            case Lost():
                self.owned = frozenset()


def drive(workers: Iterable[Worker], until: Callable[[], bool]) -> None:
    """Poll the workers in turn until the condition holds."""
    workers = list(workers)
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline, [worker.events for worker in workers]
        for worker in workers:
            worker.step()


def covers(workers: Iterable[Worker], tps: Iterable[TP]) -> bool:
    """Tell whether the workers of one generation own these partitions, each exactly once."""
    owned = [tp for worker in workers for tp in worker.owned]
    same_generation = len({worker.generation for worker in workers}) == 1
    return same_generation and sorted(owned) == sorted(tps)


def at(offset: int, metadata: str = "") -> Position:
    return Position(offset, metadata)
