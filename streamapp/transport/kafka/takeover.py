"""What a dead worker left half written ends when its partitions are taken over.

An open transaction hides what comes after it from readers until its time-out. Whoever takes a
partition over leaves its name with the position before anything else, so the next owner knows whose
transaction may be open, and ends it if that worker is no member of the group any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamapp.transport.broker import Position
from streamapp.transport.kafka.options import WITHOUT_TRANSACTIONS
from streamapp.transport.kafka.positions import FENCE, Written, write_note
from streamapp.transport.kafka.transactions import abort_left_open

if TYPE_CHECKING:
    from collections.abc import Collection

    from confluent_kafka import TopicPartition

    from streamapp.core.batch import TP
    from streamapp.transport.kafka.cluster import Cluster


def transactional_id(prefix: str, group: str, member_id: str) -> str:
    """Return the name under which a member commits."""
    return f"{prefix}{group}-{member_id}"


def end_left_open(cluster: Cluster, group: str, tps: Collection[TP]) -> None:
    """End transactions of workers that had these partitions and are gone."""
    if cluster.clients.options.guarantee == WITHOUT_TRANSACTIONS:
        return
    written = cluster.positions.written(group, tps, is_stable=False)
    owners = {one.owner for one in written.values()} - {""}
    if owners:
        living = {member.id for member in cluster.groups.members(group)}
        for member_id in owners - living:
            name = transactional_id(cluster.names.prefix, group, member_id)
            abort_left_open(cluster.clients, name)


def claims(
    cluster: Cluster, group: str, member_id: str, tps: Collection[TP]
) -> dict[TP, TopicPartition]:
    """Return the group's positions as they are, with this member for an owner.

    They are safe to commit: by now the group takes commits of this generation only, and those that
    it took before are waited for.
    """
    written = cluster.positions.written(group, tps, is_stable=True)
    nothing = Written("", Position(0, FENCE))
    return {
        tp: cluster.names.place(tp, offset, write_note(member_id, note))
        for tp in tps
        for _, (offset, note) in [written.get(tp, nothing)]
    }
