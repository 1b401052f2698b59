"""What a dead worker left half written ends when its partitions are taken over.

An open transaction hides what comes after it from readers until its time-out. Whoever commits
leaves its name with the position, so the next owner knows whose transaction may be open, and ends
it if that worker is no member of the group any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamapp.transport.kafka.positions import read_note
from streamapp.transport.kafka.transactions import abort_left_open

if TYPE_CHECKING:
    from collections.abc import Collection

    from streamapp.core.batch import TP
    from streamapp.transport.kafka.cluster import Cluster


def transactional_id(prefix: str, group: str, member_id: str) -> str:
    """Return the name under which a member commits."""
    return f"{prefix}{group}-{member_id}"


def end_left_open(
    cluster: Cluster, group: str, tps: Collection[TP]
) -> dict[TP, tuple[int, str | None]]:
    """End transactions of workers that had these partitions and are gone.

    Returns:
        Offset and whole note of the positions that the group has committed.
    """
    if not tps:
        return {}
    committed = cluster.positions.written(group, tps)
    owners = {read_note(note)[0] for _, note in committed.values()} - {""}
    owners -= cluster.ended
    if owners:
        gone = owners - cluster.groups.member_ids(group)
        for member_id in gone:
            name = transactional_id(cluster.names.prefix, group, member_id)
            abort_left_open(cluster.clients, name)
        cluster.ended |= gone
    return committed
