"""A member's row, its sign of life, and what it sees of the others.

It looks and writes; what follows from it is decided in ``coordination`` and done in ``member``.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamapp.transport.sqlite.coordination import (
    Patience,
    Peer,
    Phase,
    Plan,
    Self,
    Sight,
    View,
    Watch,
    look,
    make_plan,
)
from streamapp.transport.sqlite.database import Changes
from streamapp.transport.sqlite.groups import Groups, generation_of, peers_of, plan_of
from streamapp.transport.sqlite.locks import FileLock, probe
from streamapp.transport.sqlite.topics import partitions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamapp.core.batch import TP

#: Pause between two looks at the others' locks: bounds the time to notice a killed member.
_LOOK_MS = 100

#: Beats within a session time-out: a single late one must not evict.
_BEATS = 5


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When a group gives a member up: without a beat, or without a release that it waits for."""

    session_ms: int = 10_000
    rebalance_ms: int = 60_000


class Membership:
    """One member of one group. Called under the member's lock; only ``peer`` is read outside."""

    def __init__(
        self, groups: Groups, group: str, topics: Iterable[str], url: str, timeouts: Timeouts
    ) -> None:
        self.groups = groups
        self.group = group
        self.generation = 0
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.peer = Peer(name, "", frozenset(topics), url=url)
        self._lock: FileLock | None = None
        self._watch = Watch(timeouts.session_ms)
        self._patience = Patience(timeouts.rebalance_ms)
        self._beat_every_ms = max(1, timeouts.session_ms // _BEATS)
        self._beat_ms = 0
        self._looked_ms = 0
        self._view = View({}, Plan(), {})
        with groups.members.read() as conn:
            self._changes = Changes(conn)

    @property
    def id(self) -> str:
        """The member's name, the same over all its rejoins."""
        return self.peer.id

    def join(self) -> None:
        """Write a row with a lock of its own. Of every generation until now it owns nothing."""
        self.let_go()
        with self.groups.bus.read() as conn:
            self.generation = generation_of(conn, self.group)
        name = f"{uuid.uuid4().hex}.alive"
        self._lock = FileLock(self.groups.folder.members / name)
        # Taken before the row can be seen: whoever probes it finds it held.
        self._lock.acquire()
        self.peer = replace(self.peer, lock=name, released=self.generation)
        self.groups.register(self.group, self.peer)

    def is_due(self) -> bool:
        """Tell whether it is time to ``look``: regularly, and at once when a row has changed."""
        with self.groups.members.read():
            return self._changes.is_new() or _now_ms() - self._looked_ms >= _LOOK_MS

    def look(self, phase: Phase) -> Sight:
        """Show a sign of life, read the rows, evict who is gone, and say what that means."""
        now_ms = self._looked_ms = _now_ms()
        if self._lock is not None and now_ms - self._beat_ms >= self._beat_every_ms:
            self._beat_ms = now_ms
            self._lock.beat()
        me = Self(self.id, self.peer.lock, phase, self.generation)
        view = self._read()
        gone = self._watch.silent(view.peers.values(), now_ms)
        gone |= self._patience.overdue(me, view, now_ms)
        self._view = replace(view, peers=self._evict(gone, view.peers))
        return look(me, self._view)

    def adopt(self) -> frozenset[TP]:
        """Take over what the plan gives to this member."""
        self.generation = self._view.plan.generation
        return self._view.plan.owned[self.id]

    def mark_released(self) -> None:
        """Tell the others that this member owns nothing of the plan."""
        generation = self._view.plan.generation
        self.groups.mark_released(self.group, self.id, generation)
        self.generation = generation

    def publish(self) -> None:
        """Publish the next plan, unless somebody else was faster; either way look again."""
        self.groups.publish(self.group, make_plan(self._view))

    def let_go(self) -> None:
        """Give up the sign of life; safe to repeat."""
        if self._lock is not None:
            (self.groups.folder.members / self.peer.lock).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def leave(self) -> None:
        """Remove the row; if that fails, the lock that is let go tells the others."""
        if self._lock is None:
            return
        try:
            self.groups.evict(self.group, self.peer)
        finally:
            self.let_go()

    def _read(self) -> View:
        with self.groups.members.read() as conn:
            rows = peers_of(conn, self.group)
        peers = {row.id: row for row in rows}
        wanted = frozenset[str]().union(*(row.topics for row in rows))
        with self.groups.bus.read() as conn:
            plan = self._view.plan
            if generation_of(conn, self.group) != plan.generation:
                plan = plan_of(conn, self.group)
            known = partitions_of(conn)
        partitions = {topic: known[topic] for topic in known.keys() & wanted}
        return self._with_beats(View(peers, plan, partitions))

    def _with_beats(self, view: View) -> View:
        """Note each peer's beat; a peer whose lock is free has none and is evicted."""
        beats = {
            peer.id: probe(self.groups.folder.members / peer.lock) for peer in view.peers.values()
        }
        dead = frozenset(peer for peer, beat in beats.items() if beat is None)
        live = self._evict(dead, view.peers)
        return replace(
            view, peers={name: replace(peer, beat=beats[name] or 0) for name, peer in live.items()}
        )

    def _evict(self, gone: frozenset[str], peers: Mapping[str, Peer]) -> dict[str, Peer]:
        for name in gone - {self.id}:
            self.groups.evict(self.group, peers[name])
        return {name: peer for name, peer in peers.items() if name not in gone or name == self.id}


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
