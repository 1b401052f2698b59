"""One worker in a group: drives the group's state machine from ``poll`` and commits.

What to do next is decided in ``coordination``; here it is done. The phase changes only under
``_lock``; ``commit`` checks it, and the published generation once more within its transaction.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from streamapp.errors import FencedError
from streamapp.faults import crash_point
from streamapp.transport.broker import Assigned, Lost, MemberEvent, Position, Revoking
from streamapp.transport.sqlite.bell import RECORDS, Bell, Bells
from streamapp.transport.sqlite.coordination import Act, Phase, Sight, next_step
from streamapp.transport.sqlite.groups import check_fence, write_positions
from streamapp.transport.sqlite.log import Draft, draft, write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamapp.core.batch import TP, OutRecord, RecordBatch
    from streamapp.transport.sqlite.coordination import Peer
    from streamapp.transport.sqlite.cursor import Cursor
    from streamapp.transport.sqlite.membership import Membership
    from streamapp.transport.sqlite.topics import Topics

_OWNERS = frozenset({Phase.OWNING, Phase.REVOKING})


class _Right(NamedTuple):
    """What a commit is checked against: the member's incarnation and what it may read."""

    peer: Peer
    generation: int
    tps: frozenset[TP]


class SqliteMember:
    """A ``Member``. ``poll`` is called by one thread, everything else by any."""

    def __init__(
        self, membership: Membership, cursor: Cursor, topics: Topics, bells: Bells
    ) -> None:
        self._membership = membership
        self._cursor = cursor
        self._topics = topics
        self._bells = bells
        self._bell = Bell(bells)
        self._lock = threading.RLock()
        self._polling = threading.Lock()
        self._phase = Phase.OUT
        self._owned: frozenset[TP] = frozenset()
        self._acts: Mapping[Act, Callable[[], MemberEvent | None]] = {
            Act.JOIN: self._enter,
            Act.LOSE: self._lose,
            Act.ADOPT: self._adopt,
            Act.YIELD: self._yield,
            Act.REVOKE: self._revoke,
            Act.PUBLISH: self._publish,
            Act.DEPART: self._depart,
        }

    @property
    def id(self) -> str:
        """See ``Member.id``."""
        return self._membership.id

    @property
    def is_closed(self) -> bool:
        """Whether ``leave`` was called."""
        return self._phase is Phase.LEFT

    def join(self) -> None:
        """Enter the group: the others see it from now on."""
        with self._lock:
            self._take(Sight.MISSING)

    def poll(self, timeout_s: float, max_records: int) -> list[MemberEvent]:
        """See ``Member.poll``; an event of the group comes alone; empty at once after ``leave``."""
        deadline = time.monotonic() + timeout_s
        with self._polling:
            while self._phase is not Phase.LEFT:
                events = self._coordinate() or [*self._fetch(max_records)]
                left_s = deadline - time.monotonic()
                if events or left_s <= 0 or self._bell.wait(left_s):
                    return events
        return []

    def hand_over(self) -> int | None:
        """See ``RingsLoop.hand_over``; ``None`` after ``leave``, which may come first at a stop."""
        with self._polling:
            return None if self._phase is Phase.LEFT else self._bell.hand_over()

    def poll_nowait(self, max_records: int) -> list[RecordBatch]:
        """See ``RingsLoop.poll_nowait``."""
        if self._bell.drain():
            # The answer to a change of the group may be to write, which is for the thread.
            self._bell.interrupt()
        batches = self._fetch(max_records)
        if batches and self._cursor.is_behind:
            # Nobody else may ring for what is left.
            self._bell.nudge()
        return batches

    def seek(self, positions: Mapping[TP, int]) -> None:
        """See ``Member.seek``."""
        with self._lock:
            owned = {tp: offset for tp, offset in positions.items() if tp in self._owned}
            self._cursor.seek(owned)
        self._bell.nudge()

    def pause(self, tps: Iterable[TP]) -> None:
        """See ``Member.pause``; partitions that were not sought yet are not remembered."""
        self._cursor.pause(tps, is_paused=True)

    def resume(self, tps: Iterable[TP]) -> None:
        """See ``Member.resume``."""
        self._cursor.pause(tps, is_paused=False)
        self._bell.nudge()

    def release(self) -> None:
        """See ``Member.release``; too late (after an eviction) it does nothing."""
        with self._lock:
            self._take(Sight.RELEASE)

    def commit(self, records: Sequence[OutRecord], positions: Mapping[TP, Position]) -> list[int]:
        """See ``Member.commit``.

        A partition counts as owned once it was sought: what was prepared before the partition went
        away and came back is refused.

        Raises:
            UnknownTopicError: A record's partition does not exist; nothing was written.
        """
        with self._lock:
            right = self._right_to(positions)
        todo = draft(records)
        with self._membership.groups.bus.write() as conn:
            offsets = self._write(conn, todo, positions, right)
        self._announce(todo, right)
        return offsets

    def commit_at_once(
        self, records: Sequence[OutRecord], positions: Mapping[TP, Position]
    ) -> list[int] | None:
        """See ``CommitsAtOnce.commit_at_once``.

        Raises:
            UnknownTopicError: A record's partition does not exist; nothing was written.
        """
        # Whoever has it may be changing the group's rows, which waits for the disk.
        if not self._lock.acquire(blocking=False):
            return None
        try:
            right = self._right_to(positions)
        finally:
            self._lock.release()
        todo = draft(records)
        with self._membership.groups.bus.write_at_once() as conn:
            if conn is None:
                return None
            offsets = self._write(conn, todo, positions, right)
        self._announce(todo, right)
        return offsets

    def _right_to(self, positions: Mapping[TP, Position]) -> _Right:
        """Return what allows a commit of these positions.

        Raises:
            FencedError: Nothing does.
        """
        right = _Right(self._membership.peer, self._membership.generation, self._cursor.tps)
        if self._phase not in _OWNERS or not positions.keys() <= right.tps:
            msg = f"member {right.peer.id} does not own all of {sorted(positions)}"
            raise FencedError(msg, hint="Drop the state of those partitions.")
        return right

    def _write(
        self,
        conn: sqlite3.Connection,
        todo: Draft,
        positions: Mapping[TP, Position],
        right: _Right,
    ) -> list[int]:
        group = self._membership.group
        check_fence(conn, group, right.peer, right.generation)
        offsets = write(conn, self._topics, todo, time.time_ns() // 1_000_000)
        crash_point("sqlite.between")
        write_positions(conn, self._topics, group, positions)
        return offsets

    def _announce(self, todo: Draft, right: _Right) -> None:
        crash_point("sqlite.committed")
        if todo.count:
            # A wake-up for nothing would take the interpreter's lock from those who work.
            is_for_me = any(share.tp in right.tps for share in todo.shares)
            self._bells.ring(RECORDS, but=None if is_for_me else self._bell)

    def wake(self) -> None:
        """See ``Member.wake``."""
        self._bell.wake()

    def leave(self) -> None:
        """See ``Member.leave``; waits for a poll that is under way."""
        try:
            with self._lock:
                self._take(Sight.LEAVE)
        finally:
            self._bell.wake()
            with self._polling:
                self._cursor.close()
                self._bell.close()

    def _coordinate(self) -> list[MemberEvent]:
        """Take steps until one has something to say or there is nothing to do."""
        with self._lock:
            if self._phase is Phase.OWNING and not self._membership.is_due():
                return []
            while self._phase is not Phase.LEFT:
                sight = self._membership.look(self._phase)
                act, event = self._take(sight)
                if event is not None:
                    return [event]
                if act is Act.STAY:
                    break
                if self._phase is Phase.REVOKING and not self._owned:
                    self._take(Sight.RELEASE)
        return []

    def _take(self, sight: Sight) -> tuple[Act, MemberEvent | None]:
        """Do what the table says; the phase stays if that fails, so that it is tried again."""
        step = next_step(self._phase, sight)
        if step.act is Act.STAY:
            return step.act, None
        event = self._acts[step.act]()
        self._phase = step.phase
        return step.act, event

    def _fetch(self, max_records: int) -> list[RecordBatch]:
        return self._cursor.fetch(max_records) if self._phase is Phase.OWNING else []

    def _enter(self) -> None:
        self._membership.join()
        self._bells.ring()

    def _lose(self) -> Lost:
        lost = Lost(self._drop(), "it was silent too long")
        self._membership.let_go()
        return lost

    def _adopt(self) -> Assigned:
        self._owned = self._membership.adopt()
        return Assigned(self._membership.generation, self._owned)

    def _yield(self) -> None:
        self._drop()
        self._membership.mark_released()
        self._bells.ring()

    def _revoke(self) -> Revoking | None:
        return Revoking(self._owned) if self._owned else None

    def _publish(self) -> None:
        self._membership.publish()
        self._bells.ring()

    def _depart(self) -> None:
        # Left, whatever happens below: a lock that is let go tells the others as well.
        self._phase = Phase.LEFT
        self._drop()
        try:
            self._membership.leave()
        finally:
            self._bells.ring()

    def _drop(self) -> frozenset[TP]:
        dropped, self._owned = self._owned, frozenset()
        self._cursor.assign({})
        return dropped
