"""What groups have committed, asked by consumers that join nothing.

The admin client of librdkafka (2.16) dies of a null pointer if a coordinator moves, or a commit is
open, while it asks for positions, and of an assertion if a coordinator comes back after it asked
for a group's members in vain: a consumer knows what to do then.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from streamapp.core.batch import TP
from streamapp.transport.broker import Position
from streamapp.transport.kafka.failures import CALL_S, patiently

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer, TopicPartition

    from streamapp.transport.kafka.clients import Clients
    from streamapp.transport.kafka.names import Names

FENCE = "\nfence"
#: Seconds to wait for a commit that is being written; the time-out of transactions is shorter.
_OPEN_S = 60.0


def write_note(member_id: str, note: str) -> str:
    """Return the note of a committed position."""
    return f"{member_id}\n{note}"


def read_note(note: str | None) -> tuple[str, str]:
    """Return whose commit it was (empty: of a foreign tool) and the engine's note."""
    owner, newline, rest = (note or "").partition("\n")
    return (owner, rest) if newline else ("", owner)


class Written(NamedTuple):
    """A committed position, and the member that committed it; empty for a foreign tool."""

    owner: str
    position: Position


class Positions:
    """Positions of all groups; thread-safe.

    A committed position carries the note ``id``, newline, the engine's own: whoever takes the
    partition over knows whose transaction may still be open. One that only fences or claims
    (``member``, ``takeover``) has ``FENCE`` for a note: it is none.
    """

    def __init__(self, clients: Clients, names: Names) -> None:
        self._clients = clients
        self._names = names
        self._lock = threading.Lock()
        self._consumers: dict[tuple[str, bool], Consumer] = {}

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """See ``Broker.committed``; waits for a commit that is being written."""
        written = self.written(group, tps, is_stable=True)
        return {tp: one.position for tp, one in written.items() if one.position.metadata != FENCE}

    def written(self, group: str, tps: Iterable[TP], *, is_stable: bool) -> dict[TP, Written]:
        """Return what was committed and by whom; ``is_stable`` waits for commits that are open."""
        found: dict[TP, Written] = {}
        for place in self._ask(group, tps, is_stable=is_stable):
            owner, note = read_note(place.metadata)
            found[self._names.tp(place)] = Written(owner, Position(place.offset, note))
        return found

    def reach(self, group: str) -> None:
        """Return if the group's coordinator answers; ask it with the admin client only then.

        Raises:
            BrokerError: It does not.
        """
        self._ask(group, [TP(f"{group}-", 0)], is_stable=False, limit_s=CALL_S)

    def _ask(
        self, group: str, tps: Iterable[TP], *, is_stable: bool, limit_s: float = _OPEN_S
    ) -> list[TopicPartition]:
        places = [self._names.place(tp) for tp in tps]
        if not places:
            return []
        consumer = self._consumer(self._names.theirs(group), is_stable=is_stable)
        found = patiently(
            lambda: consumer.committed(places, limit_s),
            f"reading positions of group {group}",
            self._clients.trouble,
        )
        consumer.poll(0)  # takes librdkafka's lines, which would gather
        return [place for place in found if place.offset >= 0]

    def _consumer(self, group: str, *, is_stable: bool) -> Consumer:
        with self._lock:
            consumer = self._consumers.get((group, is_stable))
            if consumer is None:
                consumer = self._clients.asker(group, is_stable=is_stable)
                self._consumers[group, is_stable] = consumer
            return consumer

    def renew(self) -> None:
        """Ask by new connections from now on."""
        with self._lock:
            # Not closed: somebody may be asking.
            self._consumers.clear()

    def close(self) -> None:
        """Release everything; safe to repeat."""
        with self._lock:
            while self._consumers:
                self._consumers.popitem()[1].close()
