"""Who stands by: whoever has a partition after some deaths had followed it before."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP
from streamapp.core.placement import standbys
from streamapp.transport.assignment import assign_ranges

IDS = ("a", "a-b", "b", "c@", "d", "e")
groups = st.frozensets(st.sampled_from(IDS), min_size=1)
counts = st.dictionaries(st.sampled_from(["t", "u", "v"]), st.integers(0, 13))
copies = st.integers(0, 4)


def shares(members: frozenset[str], partitions: dict[str, int]) -> dict[str, frozenset[TP]]:
    return assign_ranges(dict.fromkeys(members, tuple(partitions)), partitions)


@given(groups, counts, copies)
def test_who_takes_over_has_followed(
    members: frozenset[str], partitions: dict[str, int], copies: int
) -> None:
    before = shares(members, partitions)
    chosen = standbys(before, partitions, copies)
    for deaths in range(1, min(copies, len(members) - 1) + 1):
        for dead in combinations(members, deaths):
            after = shares(members - {*dead}, partitions)
            for member, tps in after.items():
                assert tps - before[member] <= chosen[member]


@given(groups, counts, copies)
def test_each_partition_has_so_many_standbys_and_no_more(
    members: frozenset[str], partitions: dict[str, int], copies: int
) -> None:
    owned = shares(members, partitions)
    chosen = standbys(owned, partitions, copies)
    assert chosen.keys() == members
    for topic, count in partitions.items():
        for tp in (TP(topic, number) for number in range(count)):
            assert sum(tp in tps for tps in chosen.values()) == min(copies, len(members) - 1)
    assert not any(owned[member] & chosen[member] for member in members)


@given(groups, counts, copies)
def test_order_is_that_of_the_assignment_not_of_the_ids(
    members: frozenset[str], partitions: dict[str, int], copies: int
) -> None:
    """A broker that orders its members otherwise has standbys as good."""
    if max(partitions.values(), default=0) < len(members):
        return  # which of those without partitions comes first is not seen
    owned = shares(members, partitions)
    other = {f"{99 - rank}": member for rank, member in enumerate(sorted(members))}
    renamed = standbys({new: owned[old] for new, old in other.items()}, partitions, copies)
    assert {other[new]: tps for new, tps in renamed.items()} == standbys(owned, partitions, copies)


def test_four_workers_of_eight_partitions() -> None:
    owned = shares(frozenset("abcd"), {"t": 8})
    chosen = standbys(owned, {"t": 8}, 1)
    numbers = {member: sorted(tp.partition for tp in tps) for member, tps in chosen.items()}
    assert numbers == {"a": [2], "b": [0, 1, 4, 5], "c": [3, 6, 7], "d": []}
