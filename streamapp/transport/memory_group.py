"""Groups of the memory broker: who owns what, generation by generation.

A rebalance stops the whole group: every member revokes, commits and releases; when the last one
has, the next generation is published. Guarded by the broker's lock.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from streamapp.errors import FencedError
from streamapp.transport.assignment import assign_ranges
from streamapp.transport.broker import Assigned, GroupInfo, Lost, MemberInfo, Position, Revoking
from streamapp.transport.memory_log import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamapp.core.batch import TP, OutRecord
    from streamapp.transport.broker import MemberEvent
    from streamapp.transport.memory import MemoryBroker


class _State(Enum):
    OUT = auto()  # not (any more, or not yet again) in the group
    READY = auto()  # owns nothing, waits for the next generation
    OWNING = auto()
    REVOKING = auto()  # told to let go, still allowed to commit
    GONE = auto()


class _Step(Enum):
    JOIN = auto()
    ASSIGN = auto()
    REVOKE = auto()
    RELEASE = auto()
    EVICT = auto()
    LEAVE = auto()


_NEXT = {
    (_State.OUT, _Step.JOIN): _State.READY,
    (_State.READY, _Step.ASSIGN): _State.OWNING,
    (_State.OWNING, _Step.REVOKE): _State.REVOKING,
    (_State.REVOKING, _Step.RELEASE): _State.READY,
    (_State.READY, _Step.EVICT): _State.OUT,
    (_State.OWNING, _Step.EVICT): _State.OUT,
    (_State.REVOKING, _Step.EVICT): _State.OUT,
    (_State.OUT, _Step.LEAVE): _State.GONE,
    (_State.READY, _Step.LEAVE): _State.GONE,
    (_State.OWNING, _Step.LEAVE): _State.GONE,
    (_State.REVOKING, _Step.LEAVE): _State.GONE,
}


class Group:
    """Members, positions and the generation."""

    def __init__(self, name: str, partitions: Callable[[], Mapping[str, int]]) -> None:
        """Create an empty group; ``partitions`` tells how many each topic has now."""
        self.name = name
        self.generation = 0
        self.members: dict[str, MemoryMember] = {}
        self.positions: dict[TP, Position] = {}
        self._partitions = partitions

    def wants(self, topic: str) -> bool:
        """Tell whether any member reads the topic."""
        return any(topic in member.topics for member in self.members.values())

    def rebalance(self) -> None:
        """Ask every owner to let go; publish at once where there is none."""
        for member in self.members.values():
            member.revoke()
        self.publish_when_ready()

    def publish_when_ready(self) -> None:
        """Start the next generation if every member has let go."""
        if not self.members or any(not member.is_ready for member in self.members.values()):
            return
        self.generation += 1
        topics = {member_id: member.topics for member_id, member in self.members.items()}
        for member_id, tps in assign_ranges(topics, self._partitions()).items():
            self.members[member_id].own(tps)

    def info(self) -> GroupInfo:
        """Return what others may know."""
        members = tuple(
            MemberInfo(member.id, member.url, is_alive=True, tps=member.tps)
            for member in self.members.values()
        )
        return GroupInfo(self.name, self.generation, members, dict(self.positions))


class MemoryMember:
    """See ``Member``."""

    def __init__(
        self, broker: MemoryBroker, group: Group, member_id: str, topics: frozenset[str], url: str
    ) -> None:
        self.topics = topics
        self.url = url
        self.tps: frozenset[TP] = frozenset()
        self._id = member_id
        self._broker = broker
        self._group = group
        self._state = _State.OUT
        self._events: list[MemberEvent] = []
        self._cursor = Cursor(broker.logs)
        self._is_woken = False

    @property
    def id(self) -> str:
        """See ``Member.id``."""
        return self._id

    # --- steps of the group, taken under the broker's lock -------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the member waits for the next generation."""
        return self._state is _State.READY

    def _step(self, step: _Step) -> None:
        self._state = _NEXT[self._state, step]

    def join(self) -> None:
        """Enter the group and make it rebalance."""
        self._step(_Step.JOIN)
        self._group.members[self._id] = self
        self._group.rebalance()
        self._broker.changed.notify_all()

    def revoke(self) -> None:
        """Tell an owner to let go; whoever owns nothing or knows already is left alone."""
        if self._state is _State.OWNING:
            self._step(_Step.REVOKE)
            self._events.append(Revoking(self.tps))

    def own(self, tps: frozenset[TP]) -> None:
        """Take over partitions in the group's new generation."""
        self._step(_Step.ASSIGN)
        self.tps = tps
        self._events.append(Assigned(self._group.generation, tps))

    def evict(self, reason: str) -> None:
        """Lose everything; the next ``poll`` after the one that says so joins again."""
        self._step(_Step.EVICT)
        self._events = [Lost(self.tps, reason)]
        self._forget()
        self._leave_group()

    def _forget(self) -> None:
        self.tps = frozenset()
        self._cursor.clear()

    def _leave_group(self) -> None:
        del self._group.members[self._id]
        self._group.rebalance()

    # --- what the engine calls ------------------------------------------------------------------

    def poll(self, timeout_s: float, max_records: int) -> list[MemberEvent]:
        """See ``Member.poll``: events alone first, batches only while nothing else is due."""
        self._broker.meet_fault("poll")
        with self._broker.changed:
            if self._state is _State.OUT and not self._events:
                self.join()
            self._broker.changed.wait_for(self._is_due, timeout_s)
            self._is_woken = False
            events, self._events = self._events, []
            if not events and self._state is _State.OWNING:
                events.extend(self._cursor.take(max_records))
            return events

    def _is_due(self) -> bool:
        has_batches = self._state is _State.OWNING and self._cursor.has_more()
        return self._is_woken or bool(self._events) or has_batches

    def seek(self, positions: Mapping[TP, int]) -> None:
        """See ``Member.seek``."""
        self._broker.meet_fault("seek")
        with self._broker.changed:
            self._cursor.seek({tp: offset for tp, offset in positions.items() if tp in self.tps})
            self._broker.changed.notify_all()

    def pause(self, tps: Iterable[TP]) -> None:
        """See ``Member.pause``."""
        with self._broker.changed:
            self._cursor.pause(tps)

    def resume(self, tps: Iterable[TP]) -> None:
        """See ``Member.resume``."""
        with self._broker.changed:
            self._cursor.resume(tps)
            self._broker.changed.notify_all()

    def release(self) -> None:
        """See ``Member.release``; too late (after an eviction) it does nothing."""
        self._broker.meet_fault("release")
        with self._broker.changed:
            if self._state is not _State.REVOKING:
                return
            self._step(_Step.RELEASE)
            self._forget()
            self._group.publish_when_ready()
            self._broker.changed.notify_all()

    def commit(self, records: Sequence[OutRecord], positions: Mapping[TP, Position]) -> list[int]:
        """See ``Member.commit``.

        A partition counts as this member's once it was given a position: a commit prepared before
        an eviction must not slip through after the same partitions came back.
        """
        self._broker.meet_fault("commit")
        with self._broker.changed:
            owns = self._state in {_State.OWNING, _State.REVOKING}
            if not owns or not positions.keys() <= self._cursor.tps:
                message = f"member {self._id} does not own all of {sorted(positions)}"
                raise FencedError(message, hint="it drops their state and joins again")
            offsets = self._broker.write(records)
            self._group.positions.update(positions)
            return offsets

    def wake(self) -> None:
        """See ``Member.wake``."""
        with self._broker.changed:
            self._is_woken = True
            self._broker.changed.notify_all()

    def leave(self) -> None:
        """See ``Member.leave``."""
        with self._broker.changed:
            if self._state is _State.GONE:
                return
            was_out = self._state is _State.OUT
            self._step(_Step.LEAVE)
            self._events = []
            self._forget()
            if not was_out:
                self._leave_group()
            self.wake()
