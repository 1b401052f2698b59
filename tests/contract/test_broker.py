"""What every broker promises, whichever it is: topics, records and readers."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.brokers import DEADLINE_S, Brokers, at, numbered, read_all, record

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.errors import PartitionMismatchError, UnknownTopicError
from streamapp.transport.broker import OffsetRange, TopicSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamapp.transport.broker import Broker, Reader

P0, P1, P2 = TP("t", 0), TP("t", 1), TP("t", 2)


@pytest.fixture
def topic(broker: Broker) -> str:
    broker.create_topic(TopicSpec("t", 3))
    return "t"


@pytest.fixture
def reader(broker: Broker, topic: str) -> Iterator[Reader]:  # noqa: ARG001 - the topic must exist
    reader = broker.reader()
    yield reader
    reader.close()


def poll_until(reader: Reader, count: int, max_records: int = 1_000) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    deadline = time.monotonic() + DEADLINE_S
    while sum(map(len, batches)) < count:
        assert time.monotonic() < deadline, batches
        batches += reader.poll(0.05, max_records)
    return batches


# --- topics ------------------------------------------------------------------------------------


def test_created_topic_is_listed_with_its_settings(broker: Broker) -> None:
    spec = TopicSpec("c", 2, frozenset({"compact"}), None, None)
    info = broker.create_topic(spec)
    assert info.spec == spec
    assert broker.topics()["c"] == info


def test_creating_again_returns_what_is_there(broker: Broker, topic: str) -> None:
    first = broker.topics()[topic]
    again = broker.create_topic(TopicSpec(topic, 3, frozenset({"compact"})))
    assert again == first


def test_creating_with_other_partitions_names_both_numbers(broker: Broker, topic: str) -> None:
    with pytest.raises(PartitionMismatchError, match=r"3.*5|5.*3"):
        broker.create_topic(TopicSpec(topic, 5))
    assert broker.topics()[topic].spec.partitions == 3


def test_uid_is_the_same_for_every_handle_and_differs_by_topic(
    make_broker: Callable[[], Broker],
) -> None:
    one, two = make_broker(), make_broker()
    a = one.create_topic(TopicSpec("a", 1))
    b = one.create_topic(TopicSpec("b", 1))
    assert a.uid
    assert a.uid != b.uid
    assert two.topics()["a"].uid == a.uid


# --- append and offsets ------------------------------------------------------------------------


def test_offsets_are_dense_from_zero_in_each_partition(broker: Broker, topic: str) -> None:
    assert broker.offsets([P0])[P0] == OffsetRange(0, 0), topic
    mixed = [record(tp, b"k", b"v") for tp in (P0, P1, P0, P2, P0, P1)]
    assert broker.append(mixed) == [0, 0, 1, 0, 2, 1]
    assert broker.append(mixed) == [3, 2, 4, 1, 5, 3]
    expected = {P0: OffsetRange(0, 6), P1: OffsetRange(0, 4), P2: OffsetRange(0, 2)}
    assert broker.offsets([P0, P1, P2]) == expected


def test_appending_nothing_returns_nothing(broker: Broker) -> None:
    assert broker.append([]) == []


def test_large_append_is_read_back_in_order(broker: Broker, reader: Reader) -> None:
    assert broker.append(numbered(P0, 5_000)) == list(range(5_000))
    reader.assign({P0: 0})
    batches = poll_until(reader, 5_000, 700)
    assert [offset for batch in batches for offset in batch.offsets] == list(range(5_000))
    assert [value for batch in batches for value in batch.values] == [
        b"v%d" % i for i in range(5_000)
    ]


def test_record_survives_whole(broker: Broker, brokers: Brokers, reader: Reader) -> None:
    headers = (("a", b"1"), ("a", b"2"), ("empty", b""), ("ümlaut", bytes(range(256))))
    sent = [
        OutRecord(P0, b"key", b"value", 1_700_000_000_123, headers),
        OutRecord(P0, None, b"no key", brokers.earliest_ms),
        OutRecord(P0, b"tombstone", None, 5),
        OutRecord(P0, None, None, 6),
        OutRecord(P0, b"", b"", 7),
    ]
    broker.append(sent)
    reader.assign({P0: 0})
    got = [
        OutRecord(P0, key, value, timestamp, tuple(found))
        for batch in poll_until(reader, len(sent))
        for key, value, timestamp, found in zip(
            batch.keys,
            batch.values,
            batch.timestamps,
            batch.headers or [()] * len(batch),
            strict=True,
        )
    ]
    assert got == sent


def test_batch_without_headers_says_so(broker: Broker, reader: Reader) -> None:
    broker.append(numbered(P0, 3))
    reader.assign({P0: 0})
    assert all(batch.headers is None for batch in poll_until(reader, 3))


@pytest.mark.parametrize("bad", [TP("absent", 0), TP("t", 3)])
def test_unknown_partition_is_refused_and_nothing_is_written(
    broker: Broker, topic: str, bad: TP
) -> None:
    assert topic
    with pytest.raises(UnknownTopicError):
        broker.append([record(P0, b"k", b"v"), record(bad, b"k", b"v")])
    assert broker.offsets([P0])[P0].end == 0
    with pytest.raises(UnknownTopicError):
        broker.offsets([P0, bad])


def test_handles_share_their_records(make_broker: Callable[[], Broker]) -> None:
    one, two = make_broker(), make_broker()
    one.create_topic(TopicSpec("t", 3))
    assert two.append(numbered(P0, 2)) == [0, 1]
    assert one.append(numbered(P0, 2, first=2)) == [2, 3]
    assert read_all(two, P0) == [(i, b"v%d" % i) for i in range(4)]


def test_concurrent_appends_keep_each_threads_order(broker: Broker, topic: str) -> None:
    def write(thread: int) -> None:
        for i in range(50):
            broker.append([record(P0, b"", b"%d:%d" % (thread, i))])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    values = [value or b"" for _, value in read_all(broker, TP(topic, 0))]
    assert len(values) == 200
    for n in range(4):
        mine = [int(v.split(b":")[1]) for v in values if v.startswith(b"%d:" % n)]
        assert mine == list(range(50))


# --- readers -----------------------------------------------------------------------------------


def test_reader_starts_at_its_offset_and_goes_on_behind_a_batch(
    broker: Broker, reader: Reader
) -> None:
    broker.append(numbered(P0, 10))
    reader.assign({P0: 4})
    batches = poll_until(reader, 6)
    assert [offset for batch in batches for offset in batch.offsets] == [4, 5, 6, 7, 8, 9]
    assert batches[-1].next_offset == 10
    assert reader.poll(0, 100) == []
    broker.append(numbered(P0, 1, first=10))
    assert poll_until(reader, 1)[0].offsets[0] == 10


def test_reader_with_nothing_to_read_returns_after_its_time_out(reader: Reader) -> None:
    reader.assign({P0: 0})
    started = time.monotonic()
    assert reader.poll(0.05, 100) == []
    assert 0.04 <= time.monotonic() - started < DEADLINE_S


def test_assign_replaces_the_former_assignment(broker: Broker, reader: Reader) -> None:
    broker.append([*numbered(P0, 3), *numbered(P1, 3)])
    reader.assign({P0: 0})
    reader.assign({P1: 0})
    assert {batch.tp for batch in poll_until(reader, 3)} == {P1}
    assert reader.poll(0, 100) == []


def test_waiting_poll_returns_when_woken(reader: Reader) -> None:
    reader.assign({P0: 0})
    waker = threading.Timer(0.05, reader.wake)
    waker.start()
    started = time.monotonic()
    assert reader.poll(DEADLINE_S, 100) == []
    assert time.monotonic() - started < DEADLINE_S / 2
    waker.join()


def test_waiting_poll_returns_when_records_come(broker: Broker, reader: Reader) -> None:
    reader.assign({P0: 0})
    writer = threading.Timer(0.05, broker.append, args=[numbered(P0, 1)])
    writer.start()
    started = time.monotonic()
    assert reader.poll(DEADLINE_S, 100)[0].offsets[0] == 0
    assert time.monotonic() - started < DEADLINE_S / 2
    writer.join()


def test_poll_bounds_its_records_over_all_partitions(broker: Broker, reader: Reader) -> None:
    broker.append([*numbered(P0, 50), *numbered(P1, 50)])
    reader.assign({P0: 0, P1: 0})
    total = 0
    while total < 100:
        count = sum(map(len, reader.poll(0.05, 7)))
        assert count <= 7
        total += count
    assert total == 100


def test_no_partition_starves_behind_a_long_one(broker: Broker, reader: Reader) -> None:
    # Large ones: brokers take turns by records or by megabytes.
    large = [record(P0, b"k", random.randbytes(10_000)) for _ in range(400)]
    broker.append([*large, *numbered(P1, 5), *numbered(P2, 5)])
    reader.assign({P0: 0, P1: 0, P2: 0})
    polls = [poll_until(reader, 1, 50) for _ in range(5)]
    assert {batch.tp for batches in polls for batch in batches} == {P0, P1, P2}


def test_reader_below_the_earliest_offset_is_moved_up(
    broker: Broker, brokers: Brokers, reader: Reader
) -> None:
    for first in range(0, 3_000, 100):
        broker.append(numbered(P0, 100, first=first))
    if not brokers.reads_ahead:
        reader.assign({P0: 0})
    brokers.trim(broker, P0, 1_500)
    if brokers.reads_ahead:
        reader.assign({P0: 0})
    earliest, end = broker.offsets([P0])[P0]
    assert 0 < earliest < end == 3_000
    batches = poll_until(reader, end - earliest)
    assert batches[0].offsets[0] == earliest
    assert batches[-1].next_offset == end


def test_offsets_go_on_after_retention_emptied_the_partition(
    broker: Broker, brokers: Brokers, topic: str
) -> None:
    broker.append(numbered(P0, 10))
    brokers.trim(broker, TP(topic, 0), 10)
    assert broker.append(numbered(P0, 1)) == [10]


def test_assigning_an_unknown_partition_is_refused(reader: Reader) -> None:
    with pytest.raises(UnknownTopicError):
        reader.assign({TP("absent", 0): 0})


# --- closing -----------------------------------------------------------------------------------


def test_close_is_safe_to_repeat_and_records_outlive_it(
    brokers: Brokers, make_broker: Callable[[], Broker]
) -> None:
    first = brokers.open()
    first.create_topic(TopicSpec("t", 1))
    first.append(numbered(P0, 3))
    reader = first.reader()
    reader.close()
    reader.close()
    member = first.join("g", ["t"])
    member.leave()
    member.leave()
    first.close()
    first.close()
    assert read_all(make_broker(), P0) == [(0, b"v0"), (1, b"v1"), (2, b"v2")]


def test_unknown_group_has_no_positions(broker: Broker, topic: str) -> None:
    assert broker.committed("nobody", [TP(topic, 0)]) == {}
    assert at(0) == (0, "")
