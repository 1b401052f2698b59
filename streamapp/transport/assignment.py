"""Who reads which partition: pure, deterministic range assignment.

Every member of a group computes the same answer from the same arguments, so the answer needs no
coordination beyond agreeing on the arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamapp.core.batch import TP
from streamapp.core.placement import split

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def assign_ranges(
    subscriptions: Mapping[str, Collection[str]], partitions: Mapping[str, int]
) -> dict[str, frozenset[TP]]:
    """Divide the partitions of each topic into contiguous ranges over its subscribers.

    Co-partitioned: topics with equal partition counts and equal subscribers are divided alike, so
    partition ``p`` of all of them goes to one member. Members count in the order of their ids; the
    first ``partitions % members`` ones get one partition more. Source: Kafka's RangeAssignor.

    Args:
        subscriptions: Topics by member id.
        partitions: Number of partitions by topic; a topic that is absent has none.

    Returns:
        The partitions of every member of ``subscriptions``: disjoint, and together all partitions
        that anybody subscribed to. A member may get none.
    """
    shares: dict[str, list[TP]] = {member: [] for member in subscriptions}
    for topic in sorted(partitions):
        members = sorted(m for m, topics in subscriptions.items() if topic in topics)
        if not members:
            continue
        for member, numbers in zip(members, split(partitions[topic], len(members)), strict=True):
            shares[member].extend(TP(topic, number) for number in numbers)
    return {member: frozenset(tps) for member, tps in shares.items()}
