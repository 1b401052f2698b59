"""Which member of a group has which partitions, and who stands by for them. Pure.

A topic is divided into contiguous ranges, one for each member, in the members' order. So who would
have a partition without some of the members is known beforehand: with ``k`` of ``n`` members gone
the topic is divided into ``n - k`` ranges, and range ``r`` falls to the ``r``-th survivor, which is
one of the members ``r`` to ``r + k``. These stand by. For fewer deaths the new owner is among the
same members (a law in the tests), so ``k`` copies of each partition suffice for any ``k`` deaths.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise

from streamapp.core.batch import TP


def split(partitions: int, members: int) -> list[range]:
    """Divide partitions into as many contiguous ranges as there are members (at least one).

    The first ``partitions % members`` ranges have one partition more. Source: Kafka's
    RangeAssignor.
    """
    least, extra = divmod(partitions, members)
    starts = [rank * least + min(rank, extra) for rank in range(members + 1)]
    return [range(start, stop) for start, stop in pairwise(starts)]


def standbys(
    owned: Mapping[str, Collection[TP]], partitions: Mapping[str, int], copies: int
) -> dict[str, frozenset[TP]]:
    """Choose who stands by for each partition: those who would have it after some deaths.

    Whoever owns a partition after up to ``copies`` of the members died stood by for it, if all of
    them read the same topics and are assigned ranges. Each partition has ``copies`` standbys, or
    all other members if these are fewer.

    Args:
        owned: What each member has now, by its id; their order is read off this.
        partitions: Number of partitions by topic.
        copies: Standbys of each partition; 0 for none.
    """
    order = _order(owned, partitions)
    deaths = min(copies, len(order) - 1)
    chosen: dict[str, set[TP]] = {member: set() for member in order}
    if deaths > 0:
        for topic, count in partitions.items():
            for first, numbers in enumerate(split(count, len(order) - deaths)):
                tps = {TP(topic, number) for number in numbers}
                for member in order[first : first + deaths + 1]:
                    chosen[member] |= tps.difference(owned[member])
    return {member: frozenset(tps) for member, tps in chosen.items()}


def _order(owned: Mapping[str, Collection[TP]], partitions: Mapping[str, int]) -> list[str]:
    """Return the members in the order in which partitions were given to them.

    The ids decide only between members that have nothing: each kind of group compares its own.
    """
    most = max(partitions.values(), default=0)

    def rank(member: str) -> tuple[int, str]:
        numbers = [tp.partition for tp in owned[member] if partitions.get(tp.topic) == most]
        return min(numbers, default=most), member

    return sorted(owned, key=rank)
