"""The rows through which a group agrees, and the positions that it commits.

Two files: the members in ``groups.db`` (cheap, worthless once all processes are gone); plan,
generation and positions in ``bus.db``, so that a commit is checked against the generation in the
very transaction that writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.errors import FencedError
from streamapp.transport.broker import GroupInfo, MemberInfo, Position
from streamapp.transport.sqlite.coordination import Peer, Plan
from streamapp.transport.sqlite.locks import probe

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from streamapp.transport.sqlite.database import Database
    from streamapp.transport.sqlite.schema import Folder
    from streamapp.transport.sqlite.topics import Topics

_POSITION = (
    "INSERT INTO position (grp, tid, p, next, metadata) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (grp, tid, p) DO UPDATE SET next = excluded.next, metadata = excluded.metadata"
)
_PLAN = (
    "INSERT INTO grp (name, generation, plan) VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, plan = excluded.plan"
)


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups of a bus; thread-safe."""

    folder: Folder
    bus: Database
    members: Database

    def register(self, group: str, peer: Peer) -> None:
        """Write the member's row, in place of an older one."""
        topics = ",".join(sorted(peer.topics))
        with self.members.write() as conn:
            conn.execute(
                "INSERT OR REPLACE INTO member (grp, id, lock, url, topics, released)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (group, peer.id, peer.lock, peer.url, topics, peer.released),
            )

    def evict(self, group: str, peer: Peer) -> None:
        """Fence the member, then remove its row; another incarnation of it is left alone.

        From here on it cannot commit; its ``poll`` finds out and rejoins, if it still runs.
        """
        these = (group, peer.id, peer.lock)
        with self.bus.write() as conn:
            conn.execute("DELETE FROM owner WHERE grp = ? AND id = ? AND lock = ?", these)
        with self.members.write() as conn:
            conn.execute("DELETE FROM member WHERE grp = ? AND id = ? AND lock = ?", these)
        (self.folder.members / peer.lock).unlink(missing_ok=True)

    def mark_released(self, group: str, member: str, generation: int) -> None:
        """Note that the member owns nothing of this generation any more."""
        with self.members.write() as conn:
            conn.execute(
                "UPDATE member SET released = ? WHERE grp = ? AND id = ?",
                (generation, group, member),
            )

    def publish(self, group: str, plan: Plan) -> bool:
        """Make ``plan`` the group's, unless another of its generation was faster.

        From here on no member of an older generation can commit.
        """
        with self.bus.write() as conn:
            if generation_of(conn, group) != plan.generation - 1:
                return False
            conn.execute(_PLAN, (group, plan.generation, _dump(plan)))
            conn.execute("DELETE FROM owner WHERE grp = ?", (group,))
            conn.executemany(
                "INSERT INTO owner (grp, id, lock, generation) VALUES (?, ?, ?, ?)",
                [(group, member, lock, plan.generation) for member, lock in plan.locks.items()],
            )
            return True

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """Return the positions of those of these partitions that have one."""
        with self.bus.read() as conn:
            known = _positions(conn, group)
        return {TP(*tp): known[TP(*tp)] for tp in tps if TP(*tp) in known}

    def members_of(self, group: str) -> tuple[MemberInfo, ...]:
        """Return the members of one group."""
        with self.members.read() as conn:
            peers = peers_of(conn, group)
        with self.bus.read() as conn:
            return self._infos(peers, plan_of(conn, group))

    def describe(self) -> dict[str, GroupInfo]:
        """Return all groups by name, those without a live member included."""
        with self.members.read() as conn:
            rows = conn.execute("SELECT DISTINCT grp FROM member").fetchall()
            peers = {name: peers_of(conn, name) for (name,) in rows}
        with self.bus.read() as conn:
            stored = conn.execute("SELECT name FROM grp UNION SELECT grp FROM position")
            names = {name for (name,) in stored} | peers.keys()
            return {name: self._describe(conn, name, peers.get(name, ())) for name in sorted(names)}

    def _describe(self, conn: sqlite3.Connection, name: str, peers: Iterable[Peer]) -> GroupInfo:
        plan = plan_of(conn, name)
        return GroupInfo(name, plan.generation, self._infos(peers, plan), _positions(conn, name))

    def _infos(self, peers: Iterable[Peer], plan: Plan) -> tuple[MemberInfo, ...]:
        return tuple(
            MemberInfo(
                peer.id,
                peer.url,
                probe(self.folder.members / peer.lock) is not None,
                plan.owned.get(peer.id, frozenset()),
            )
            for peer in peers
        )


def write_positions(
    conn: sqlite3.Connection, topics: Topics, group: str, positions: Mapping[TP, Position]
) -> None:
    """Write positions within the transaction of ``conn``.

    Raises:
        UnknownTopicError: A partition does not exist; the caller's transaction must be undone.
    """
    for tp, (offset, metadata) in positions.items():
        tid, _ = topics.locate(conn, tp)
        conn.execute(_POSITION, (group, tid, tp[1], offset, metadata))


def check_fence(conn: sqlite3.Connection, group: str, peer: Peer, generation: int) -> None:
    """Check within the transaction of ``conn`` that the member still owns this generation.

    Raises:
        FencedError: It was evicted, or another generation was published; the caller's transaction
            must be undone.
    """
    row = conn.execute(
        "SELECT lock, generation FROM owner WHERE grp = ? AND id = ?", (group, peer.id)
    ).fetchone()
    if row != (peer.lock, generation):
        now = generation_of(conn, group)
        msg = f"member {peer.id} of group {group} lost generation {generation}; it is at {now} now"
        raise FencedError(msg, hint="Drop the state of its partitions; it rejoins by itself.")


def generation_of(conn: sqlite3.Connection, group: str) -> int:
    """Return the published generation, 0 for a new group."""
    row = conn.execute("SELECT generation FROM grp WHERE name = ?", (group,)).fetchone()
    return 0 if row is None else int(row[0])


def plan_of(conn: sqlite3.Connection, group: str) -> Plan:
    """Return the published plan."""
    row = conn.execute("SELECT generation, plan FROM grp WHERE name = ?", (group,)).fetchone()
    return Plan() if row is None else _load(*row)


def peers_of(conn: sqlite3.Connection, group: str) -> tuple[Peer, ...]:
    """Return the rows of the members; whether they live is another matter."""
    rows = conn.execute(
        "SELECT id, lock, topics, released, url FROM member WHERE grp = ? ORDER BY id", (group,)
    )
    return tuple(
        Peer(member, lock, frozenset(filter(None, topics.split(","))), released, url=url)
        for member, lock, topics, released, url in rows
    )


def _positions(conn: sqlite3.Connection, group: str) -> dict[TP, Position]:
    rows = conn.execute(
        "SELECT t.name, o.p, o.next, o.metadata FROM position o JOIN topic t USING (tid)"
        " WHERE o.grp = ?",
        (group,),
    )
    return {TP(name, p): Position(offset, metadata) for name, p, offset, metadata in rows}


def _dump(plan: Plan) -> str:
    members = {
        member: {
            "topics": sorted(topics),
            "lock": plan.locks[member],
            "owned": sorted(plan.owned[member]),
        }
        for member, topics in plan.topics.items()
    }
    return json.dumps({"members": members, "partitions": plan.partitions})


def _load(generation: int, text: str) -> Plan:
    stored = json.loads(text)
    members = stored["members"].items()
    return Plan(
        generation,
        {member: frozenset(row["topics"]) for member, row in members},
        {member: row["lock"] for member, row in members},
        {topic: (tid, count) for topic, (tid, count) in stored["partitions"].items()},
        {member: frozenset(TP(*tp) for tp in row["owned"]) for member, row in members},
    )
