"""The parts of the Faust driver that need no Faust worker: buffers, writer, fair reading."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.errors import UnknownTopicError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.driver_buffers import Buffers
from streamapp.transport.driver_producer import Writer
from streamapp.transport.memory import MemoryBroker
from streamapp.transport.memory_log import Cursor, Log

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = TP("t", 0), TP("t", 1), TP("t", 2)
DEADLINE_S = 10.0


def batch(tp: TP, first: int, count: int = 1) -> RecordBatch:
    offsets = range(first, first + count)
    none = [None] * count
    return RecordBatch(tp, offsets, [0] * count, none, none, None, first + count, 0)


def sought(*tps: TP) -> Buffers:
    buffers = Buffers()
    start = dict.fromkeys(tps, 0)
    buffers.begin_seek(start)
    buffers.end_seek(start)
    return buffers


def test_buffers_hand_out_one_batch_of_each_wanted_partition_in_order() -> None:
    buffers = sought(A, B)
    for wanted in (batch(A, 0, 2), batch(A, 2), batch(B, 0)):
        assert buffers.put(wanted)
    assert [(b.tp, b.offsets[0]) for b in buffers.take({A})] == [(A, 0)]
    assert buffers.positions == {A: 2, B: 0}
    assert [(b.tp, b.offsets[0]) for b in buffers.take(None)] == [(A, 2), (B, 0)]
    assert buffers.take(None) == []


def test_buffers_drop_what_was_read_before_a_seek() -> None:
    buffers = sought(A, B)
    buffers.put(batch(A, 0))
    buffers.begin_seek({A: 5})
    assert not buffers.put(batch(A, 1)), "still on its way when the seek began"
    assert buffers.put(batch(B, 0))
    buffers.begin_seek({A: 7})
    buffers.end_seek({A: 5})
    assert not buffers.put(batch(A, 5)), "the second seek has not happened yet"
    buffers.end_seek({A: 7})
    assert buffers.put(batch(A, 7))
    assert [(b.tp, b.offsets[0]) for b in buffers.take(None)] == [(B, 0), (A, 7)]


def test_buffers_refuse_partitions_that_were_forgotten() -> None:
    buffers = sought(A)
    buffers.put(batch(A, 0))
    buffers.forget([A])
    assert not buffers.put(batch(A, 1))
    assert buffers.take(None) == []


def test_buffers_are_full_and_low_again() -> None:
    buffers = sought(A)
    for first in range(0, 5_000, 1_000):
        buffers.put(batch(A, first, 1_000))
    assert buffers.is_full(A)
    assert not buffers.is_low(A)
    for _ in range(4):
        buffers.take(None)
    assert buffers.is_low(A)


async def test_flush_does_not_wait_for_records_that_came_after_it() -> None:
    is_writing, may_write = threading.Event(), threading.Semaphore(0)

    def append(records: Sequence[OutRecord]) -> list[int]:
        is_writing.set()
        may_write.acquire(timeout=DEADLINE_S)
        return list(range(len(records)))

    writer = Writer(append)
    writer.start(asyncio.get_running_loop())
    before = writer.put(OutRecord(A, b"", b"before", 0))
    await asyncio.to_thread(is_writing.wait, DEADLINE_S)
    flushing = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    after = writer.put(OutRecord(A, b"", b"after", 0))
    may_write.release()
    await asyncio.wait_for(flushing, DEADLINE_S / 2)
    assert before.done()
    assert not after.done()
    may_write.release()
    await asyncio.to_thread(writer.stop)
    await after


def test_one_read_serves_every_partition() -> None:
    logs = {tp: Log(tp) for tp in (A, B, C)}
    for tp, count in ((A, 50), (B, 2), (C, 50)):
        for _ in range(count):
            logs[tp].append(OutRecord(tp, b"", b"", 0))
    cursor = Cursor(logs)
    cursor.seek({A: 0, B: 0, C: 0})
    assert [(b.tp, len(b)) for b in cursor.take(30)] == [(A, 10), (B, 2), (C, 18)]


def test_compaction_keeps_the_latest_of_each_key_and_the_last_record() -> None:
    log = Log(A)
    for key, value in [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)]:
        log.append(OutRecord(A, key, value, 0))
    log.compact()
    kept = log.read(0, 10)
    assert kept is not None
    assert (list(kept.offsets), list(kept.values), log.range) == ([2, 3], [b"2", None], (0, 4))


async def test_writer_blames_only_the_senders_to_a_topic_that_is_not_there() -> None:
    broker = MemoryBroker()
    broker.create_topic(TopicSpec("t", 1))
    writer = Writer(broker.append)
    writer.start(asyncio.get_running_loop())
    with writer._changed:  # so that the thread finds all of them at once
        futures = [
            writer.put(OutRecord(TP(name, 0), None, b"v", 0)) for name in ("t", "gone", "t", "t")
        ]
    try:
        done = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), DEADLINE_S)
    finally:
        await asyncio.to_thread(writer.stop)
    assert [getattr(each, "offset", type(each)) for each in done] == [0, UnknownTopicError, 1, 2]
