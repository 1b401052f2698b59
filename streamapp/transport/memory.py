"""A broker in this process: the contract of ``broker`` with nothing below it, for tests.

It must never do anything on its own: no thread, no timer, no randomness. What a test wants to
happen (an eviction, a full disk, retention) it asks for by name, so each run is the same.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict, deque
from functools import cache
from itertools import count
from threading import Condition, RLock
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.errors import PartitionMismatchError, UnknownTopicError
from streamapp.transport.broker import (
    GroupInfo,
    MemberInfo,
    OffsetRange,
    Position,
    TopicInfo,
    TopicSpec,
)
from streamapp.transport.memory_group import Group, MemoryMember
from streamapp.transport.memory_log import Cursor, Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamapp.transport.broker import Member, Reader


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryBroker:
    """Topics, groups and injected faults of one process; thread-safe.

    Nothing is released by ``close``: whoever opens the name again finds the records, as with a
    durable broker. They end with the process.
    """

    def __init__(self, *, clock_ms: Callable[[], int] = _wall_clock_ms) -> None:
        """Create an empty broker; ``clock_ms`` (epoch ms) is asked by ``janitor`` only."""
        self.changed = Condition(RLock())  # guards everything; notified of every change
        self.logs: dict[TP, Log] = {}
        self._clock_ms = clock_ms
        self._topics: dict[str, TopicInfo] = {}
        self._groups: dict[str, Group] = {}
        self._member_numbers = count(1)
        self._faults: dict[str, deque[Exception]] = defaultdict(deque)

    # --- topics and records ----------------------------------------------------------------

    def create_topic(self, spec: TopicSpec) -> TopicInfo:
        """See ``Broker.create_topic``; groups that wait for the topic rebalance."""
        self.meet_fault("create_topic")
        with self.changed:
            have = self._topics.get(spec.name)
            if have is None:
                return self._create(spec)
        if have.spec.partitions != spec.partitions:
            message = f"topic {spec.name} has {have.spec.partitions} partitions"
            hint = f"{spec.partitions} were asked for; use its number or another name"
            raise PartitionMismatchError(message, hint=hint)
        return have

    def _create(self, spec: TopicSpec) -> TopicInfo:
        info = self._topics[spec.name] = TopicInfo(spec, uuid.uuid4().hex)
        for partition in range(spec.partitions):
            tp = TP(spec.name, partition)
            self.logs[tp] = Log(tp)
        for group in self._groups.values():
            if group.wants(spec.name):
                group.rebalance()
        self.changed.notify_all()
        return info

    def topics(self) -> Mapping[str, TopicInfo]:
        """See ``Broker.topics``; a copy."""
        self.meet_fault("topics")
        with self.changed:
            return dict(self._topics)

    def offsets(self, tps: Iterable[TP]) -> dict[TP, OffsetRange]:
        """See ``Broker.offsets``."""
        self.meet_fault("offsets")
        with self.changed:
            return {tp: self._log(tp).range for tp in tps}

    def append(self, records: Sequence[OutRecord]) -> list[int]:
        """See ``Broker.append``."""
        self.meet_fault("append")
        return self.write(records)

    def write(self, records: Sequence[OutRecord]) -> list[int]:
        """Append for ``append`` and for commits, which meet faults under their own names."""
        with self.changed:
            logs = [self._log(record.tp) for record in records]  # all, before the first write
            offsets = [log.append(record) for log, record in zip(logs, records, strict=True)]
            self.changed.notify_all()
            return offsets

    def _log(self, tp: TP) -> Log:
        log = self.logs.get(tp)
        if log is None:
            message = f"there is no partition {tp.partition} of topic {tp.topic}"
            raise UnknownTopicError(message, hint="create the topic first")
        return log

    def reader(self) -> Reader:
        """See ``Broker.reader``."""
        self.meet_fault("reader")
        return MemoryReader(self)

    # --- groups ------------------------------------------------------------------------------

    def join(self, group: str, topics: Iterable[str], url: str = "") -> Member:
        """See ``Broker.join``."""
        self.meet_fault("join")
        with self.changed:
            member_id = f"{group}-{next(self._member_numbers)}"
            member = MemoryMember(self, self._group(group), member_id, frozenset(topics), url)
            member.join()
            return member

    def _group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group(name, self._partitions))

    def _partitions(self) -> dict[str, int]:
        return {name: info.spec.partitions for name, info in self._topics.items()}

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """See ``Broker.committed``."""
        self.meet_fault("committed")
        with self.changed:
            have = self._groups[group].positions if group in self._groups else {}
            return {tp: have[tp] for tp in tps if tp in have}

    def members(self, group: str) -> tuple[MemberInfo, ...]:
        """See ``Broker.members``."""
        self.meet_fault("members")
        with self.changed:
            return self._groups[group].info().members if group in self._groups else ()

    def groups(self) -> Mapping[str, GroupInfo]:
        """See ``Broker.groups``."""
        self.meet_fault("groups")
        with self.changed:
            return {name: group.info() for name, group in self._groups.items()}

    def close(self) -> None:
        """Do nothing: see the class."""

    # --- what a test makes happen --------------------------------------------------------------

    def fail_next(self, method: str, error: Exception, *, times: int = 1) -> None:
        """Let the next calls of a method raise before they change anything.

        Args:
            method: A public method of Broker, Member or Reader (``commit``, ``poll``, ...); a
                name shared by Member and Reader fails for whichever calls first.
            error: What they raise.
            times: How many calls fail.
        """
        with self.changed:
            self._faults[method].extend([error] * times)

    def meet_fault(self, method: str) -> None:
        """Raise the next injected fault of this method, if there is one."""
        with self.changed:
            if self._faults[method]:
                raise self._faults[method].popleft()

    def evict(self, member_id: str) -> None:
        """Let the member's session end: it gets ``Lost``, the others its partitions.

        Raises:
            KeyError: No group has such a member.
        """
        with self.changed:
            for group in self._groups.values():
                if member_id in group.members:
                    group.members[member_id].evict("evicted")
                    self.changed.notify_all()
                    return
            raise KeyError(member_id)

    def trim(self, tp: TP, before: int) -> None:
        """Delete the records of a partition below an offset, as retention does."""
        with self.changed:
            self._log(tp).trim(before)

    def janitor(self) -> None:
        """Apply retention by age and compaction once, as of ``clock_ms``."""
        with self.changed:
            for name, info in self._topics.items():
                for partition in range(info.spec.partitions):
                    self._clean(self.logs[TP(name, partition)], info.spec)

    def _clean(self, log: Log, spec: TopicSpec) -> None:
        if "delete" in spec.cleanup and spec.retention_ms is not None:
            log.trim_older(self._clock_ms() - spec.retention_ms)
        if "compact" in spec.cleanup:
            log.compact()


class MemoryReader:
    """See ``Reader``."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._cursor = Cursor(broker.logs)
        self._is_woken = False

    def assign(self, positions: Mapping[TP, int]) -> None:
        """See ``Reader.assign``.

        Raises:
            UnknownTopicError: A partition does not exist; the old assignment holds.
        """
        self._broker.meet_fault("assign")
        with self._broker.changed:
            self._broker.offsets(positions)
            self._cursor.clear()
            self._cursor.seek(positions)
            self._broker.changed.notify_all()

    def poll(self, timeout_s: float, max_records: int) -> list[RecordBatch]:
        """See ``Reader.poll``."""
        self._broker.meet_fault("poll")
        with self._broker.changed:
            self._broker.changed.wait_for(
                lambda: self._is_woken or self._cursor.has_more(), timeout_s
            )
            self._is_woken = False
            return self._cursor.take(max_records)

    def positions(self) -> dict[TP, int]:
        """See ``Reader.positions``."""
        with self._broker.changed:
            return self._cursor.positions

    def wake(self) -> None:
        """See ``Reader.wake``."""
        with self._broker.changed:
            self._is_woken = True
            self._broker.changed.notify_all()

    def close(self) -> None:
        """See ``Reader.close``."""
        with self._broker.changed:
            self._cursor.clear()
        self.wake()


@cache
def memory_broker(name: str) -> MemoryBroker:  # noqa: ARG001 - the key of the cache
    """Return the process's broker of this name, so that ``memory://name`` is one broker."""
    return MemoryBroker()
