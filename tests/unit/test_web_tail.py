"""The newest rows of a changelog."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.memory import MemoryBroker
from streamapp.web.tail import Tail

TOPIC = "log"


def broker_with(partitions: int) -> MemoryBroker:
    broker = MemoryBroker()
    broker.create_topic(TopicSpec(TOPIC, partitions, frozenset({"compact"}), None, None))
    return broker


def shown(tail: Tail) -> list[tuple[int, bytes, bytes]]:
    return [(row.partition, row.raw_key, row.value) for row in tail.known]


_WRITES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary()),
    max_size=30,
)


@given(st.lists(_WRITES, max_size=4), st.integers(1, 12))
def test_the_tail_is_what_its_depth_of_the_log_says(
    rounds: list[list[tuple[int, bytes, bytes | None]]], depth: int
) -> None:
    broker, tail = broker_with(2), Tail(TOPIC, 2, depth)
    clock, log = count(), []
    for writes in rounds:
        records = [OutRecord(TP(TOPIC, p), key, value, next(clock)) for p, key, value in writes]
        broker.append(records)
        log += records
        tail.refresh(broker)
        whole = model(log, len(log))
        known = shown(tail)
        # Never a row that is not so, nothing missing of the last records, newest first.
        assert set(known) <= set(whole)
        assert known == [row for row in whole if row in set(known)]
        assert known[:depth] == known
        missing = [row for row in model(log, depth)[:depth] if row not in known]
        assert all(whole.index(row) > whole.index(known[-1]) for row in missing)
        assert not missing or len(known) == depth


def model(log: list[OutRecord], depth: int) -> list[tuple[int, bytes, bytes]]:
    """Return the rows that the last ``depth`` records of each partition leave, newest first."""
    rows: dict[tuple[int, bytes | None], bytes] = {}
    for number in (0, 1):
        mine = [record for record in log if record.tp.partition == number]
        for record in mine[-depth:]:
            rows.pop((number, record.key), None)
            if record.value is not None:
                rows[number, record.key] = record.value
    at = {(record.tp.partition, record.key): index for index, record in enumerate(log)}
    newest = sorted(rows.items(), key=lambda row: at[row[0]], reverse=True)
    return [(number, key or b"", value) for (number, key), value in newest]


def test_a_topic_made_anew_is_read_anew() -> None:
    tail = Tail(TOPIC, 1)
    for value, records in ((b"old", 5), (b"new", 1)):
        broker = broker_with(1)
        broker.append([OutRecord(TP(TOPIC, 0), b"k%d" % n, value, n) for n in range(records)])
        tail.refresh(broker)
    assert shown(tail) == [(0, b"k0", b"new")]


def test_of_huge_rows_only_some_megabytes_are_kept() -> None:
    broker, tail = broker_with(2), Tail(TOPIC, 2)
    large = [OutRecord(TP(TOPIC, 0), b"k%d" % n, b"x" * (1 << 20), n) for n in range(150)]
    broker.append([*large, OutRecord(TP(TOPIC, 1), b"small", b"1", 0)])
    tail.refresh(broker)
    assert [row.raw_key for row in tail.known] == [
        *(b"k%d" % n for n in range(149, 142, -1)),
        b"small",
    ]
    broker.append([OutRecord(TP(TOPIC, 0), b"larger", b"x" * (9 << 20), 200)])
    tail.refresh(broker)
    assert [row.raw_key for row in tail.known] == [b"larger", b"small"]
