"""Range assignment: whole, disjoint, even, alike for co-partitioned topics."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP
from streamapp.transport.assignment import assign_ranges

TOPICS = ("a", "b", "c")
subscriptions = st.dictionaries(
    st.sampled_from(["m1", "m2", "m3", "m4", "m5"]), st.frozensets(st.sampled_from(TOPICS))
)
partitions = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 9))


def numbers(tps: frozenset[TP], topic: str) -> list[int]:
    return sorted(tp.partition for tp in tps if tp.topic == topic)


def test_first_members_get_the_remainder() -> None:
    shares = assign_ranges({"z": ["t"], "a": ["t"], "k": ["t"]}, {"t": 7})
    assert numbers(shares["a"], "t") == [0, 1, 2]
    assert numbers(shares["k"], "t") == [3, 4]
    assert numbers(shares["z"], "t") == [5, 6]


def test_topic_goes_to_its_subscribers_only() -> None:
    shares = assign_ranges({"a": ["t"], "b": ["u"], "c": []}, {"t": 2, "u": 1})
    assert shares == {
        "a": frozenset({TP("t", 0), TP("t", 1)}),
        "b": frozenset({TP("u", 0)}),
        "c": frozenset(),
    }


def test_topic_without_partitions_is_nobodys() -> None:
    assert assign_ranges({"a": ["absent"]}, {}) == {"a": frozenset()}


@given(subscriptions, partitions)
def test_every_wanted_partition_has_exactly_one_owner(
    subscriptions: dict[str, frozenset[str]], partitions: dict[str, int]
) -> None:
    shares = assign_ranges(subscriptions, partitions)
    assert shares.keys() == subscriptions.keys()
    wanted = {topic for topics in subscriptions.values() for topic in topics}
    expected = [TP(t, p) for t, count in partitions.items() if t in wanted for p in range(count)]
    assert sorted(tp for tps in shares.values() for tp in tps) == sorted(expected)
    for member, topics in subscriptions.items():
        assert {tp.topic for tp in shares[member]} <= topics


@given(subscriptions, partitions)
def test_shares_of_a_topic_are_ranges_that_differ_by_one_at_most(
    subscriptions: dict[str, frozenset[str]], partitions: dict[str, int]
) -> None:
    shares = assign_ranges(subscriptions, partitions)
    for topic, count in partitions.items():
        members = sorted(m for m, topics in subscriptions.items() if topic in topics)
        ranges = [numbers(shares[m], topic) for m in members]
        assert [p for r in ranges for p in r] == list(range(count if members else 0))
        assert not ranges or len(ranges[0]) - len(ranges[-1]) in {0, 1}


@given(st.integers(1, 5), st.integers(0, 9))
def test_co_partitioned_topics_are_divided_alike(members: int, count: int) -> None:
    shares = assign_ranges({f"m{i}": TOPICS for i in range(members)}, dict.fromkeys(TOPICS, count))
    for tps in shares.values():
        assert numbers(tps, "a") == numbers(tps, "b") == numbers(tps, "c")
