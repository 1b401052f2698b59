"""What the engine needs of a broker: a partitioned log, groups, and one atomic commit.

All calls block and are made from threads of the driver, never from the event loop. Implementations:
``sqlite`` (embedded, durable), ``memory`` (deterministic, for tests), ``kafka``. They share one
contract suite (tests/contract). Every broker uses Kafka's murmur2 partitioner (``partitioner``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.core.limits import NO_LIMITS, Limits


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is kept.

    ``cleanup`` holds ``delete`` (retention by age and size), ``compact`` (latest value of each key)
    or both. ``None`` for a bound means unbounded.
    """

    name: str
    partitions: int
    cleanup: frozenset[str] = frozenset({"delete"})
    retention_ms: int | None = 7 * 24 * 3_600_000
    retention_bytes: int | None = 1 << 30


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is. ``uid`` names its incarnation: a topic made anew has another one.

    ``limits`` are what the broker refuses: whoever sends looks at them first.
    """

    spec: TopicSpec
    uid: str
    limits: Limits = NO_LIMITS


class OffsetRange(NamedTuple):
    """Readable offsets ``[earliest, end)`` of a partition; empty when both are equal.

    On Kafka a commit takes offsets that hold no record, so ``end`` may be beyond the last record,
    and rise where nothing was written: compare it with ``Reader.positions``.
    """

    earliest: int
    end: int


class Position(NamedTuple):
    """The next offset that a group will read of a partition, with the engine's own note."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """This member now owns exactly ``tps`` (all of them, kept ones included).

    No batch of a newly assigned partition arrives before ``Member.seek`` names its position.
    ``counts`` are the partitions of the group's topics, of brokers where they can grow.
    """

    generation: int
    tps: frozenset[TP]
    counts: Mapping[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Revoking:
    """The group rebalances: commit, let go of ``tps``, then call ``Member.release``."""

    tps: frozenset[TP]


@dataclass(frozen=True, slots=True)
class Lost:
    """The group went on without this member: drop all state of ``tps``, commit nothing.

    The member rejoins by itself; an ``Assigned`` follows.
    """

    tps: frozenset[TP]
    reason: str


MemberEvent = RecordBatch | Assigned | Revoking | Lost


class Reader(Protocol):
    """Reads partitions outside of any group: changelogs, reply topics, ``tail``.

    ``poll`` is called by one thread; the other calls may come from any.
    """

    def assign(self, positions: Mapping[TP, int]) -> None:
        """Read exactly these partitions, each from its offset on.

        An offset below the earliest one is moved up to it (compaction, retention).
        """

    def poll(self, timeout_s: float, max_records: int) -> list[RecordBatch]:
        """Wait for records, ``wake`` or the time-out; return what is there, fair by partition."""

    def positions(self) -> dict[TP, int]:
        """Return where each assigned partition is: all records below were returned.

        It passes what is no record too (ends of commits, what compaction removed), so at the end of
        a partition it is the end, some time after the last record was returned.
        """

    def wake(self) -> None:
        """Make a waiting ``poll`` return."""

    def close(self) -> None:
        """Release everything; safe to repeat."""


class Member(Protocol):
    """One worker in a group: its membership, its reading position and its commits."""

    @property
    def id(self) -> str:
        """Name of this member, unique in the group."""

    def poll(self, timeout_s: float, max_records: int) -> list[MemberEvent]:
        """Return what happened since the last call, waiting up to ``timeout_s`` for the first.

        With ``max_records`` 0 it returns events of the group only. Called by one thread, all the
        time: liveness in the group hangs on it. Never blocks on the engine: between ``Revoking``
        and ``release`` it returns no batches and keeps the membership.
        """

    def seek(self, positions: Mapping[TP, int]) -> None:
        """Start (or go on) reading these owned partitions from here. Not-owned ones are ignored."""

    def pause(self, tps: Iterable[TP]) -> None:
        """Return no more batches of these partitions until ``resume``."""

    def resume(self, tps: Iterable[TP]) -> None:
        """Undo ``pause``."""

    def release(self) -> None:
        """Answer to ``Revoking``: the engine has committed and let go."""

    def commit(self, records: Sequence[OutRecord], positions: Mapping[TP, Position]) -> list[int]:
        """Write the records and the group's positions as one atomic, durable step.

        A position counts only for a partition that was sought since its assignment: a commit that
        was prepared before an eviction must not slip through after the partition came back.

        Returns:
            The offset of each record, in their order.

        Raises:
            FencedError: A newer generation owns the group; nothing was written.
            BrokerFullError: No room; nothing was written; may be tried again as it is.
        """

    def wake(self) -> None:
        """Make a waiting ``poll`` return."""

    def leave(self) -> None:
        """Leave the group, so that others take over at once; safe to repeat."""


@runtime_checkable
class SendsEarly(Protocol):
    """A ``Member`` whose outputs need not all wait for a commit."""

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """Send at once what need not wait; return the rest, which belongs into ``Member.commit``.

        Called on the event loop, in the order in which events finish. The next ``commit`` waits
        until the broker has what was sent, and fails if it has not: then the events run again, and
        send again.
        """


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member of a group as others see it. ``url`` is where its web server answers."""

    id: str
    url: str
    is_alive: bool
    tps: frozenset[TP]


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group: its generation, members and committed positions.

    ``generation`` is 0 where those outside of a group are not told (Kafka).
    """

    name: str
    generation: int
    members: tuple[MemberInfo, ...] = ()
    positions: Mapping[TP, Position] = field(default_factory=dict)


class Broker(Protocol):
    """A broker. Opening and closing are the implementation's; all methods are thread-safe."""

    def create_topic(self, spec: TopicSpec) -> TopicInfo:
        """Create the topic if it is not there; its settings, if it is, stay as they are.

        Raises:
            PartitionMismatchError: It exists with another number of partitions.
        """

    def topics(self) -> Mapping[str, TopicInfo]:
        """Return all topics by name."""

    def offsets(self, tps: Iterable[TP]) -> dict[TP, OffsetRange]:
        """Return the readable range of each partition.

        Raises:
            UnknownTopicError: A topic or partition does not exist.
        """

    def append(self, records: Sequence[OutRecord]) -> list[int]:
        """Write records durably, all or none; return their offsets, in their order.

        On Kafka an error in the middle leaves what was written before it: its records count one by
        one outside of a commit. And times are at least 1 ms: its clients have none before 1970.

        Raises:
            UnknownTopicError: A topic or partition does not exist; nothing was written.
            BrokerFullError: No room; nothing was written.
        """

    def reader(self) -> Reader:
        """Return a reader outside of any group."""

    def join(self, group: str, topics: Iterable[str], url: str = "") -> Member:
        """Join a group that reads ``topics``; returns at once, ``poll`` brings the assignment."""

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """Return the committed positions; a partition without one is absent."""

    def members(self, group: str) -> tuple[MemberInfo, ...]:
        """Return the members of one group; none of a group that does not exist.

        It is the directory of an application's workers: where each of them answers, and which
        partitions it has. One request, whatever other groups there are.
        """

    def groups(self) -> Mapping[str, GroupInfo]:
        """Return all groups by name."""

    def close(self) -> None:
        """Release everything; safe to repeat."""
