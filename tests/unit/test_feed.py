"""What both kinds of feed do: hand records out in order, and know how far they are done."""

from __future__ import annotations

import asyncio

import pytest
from support.feeds import (
    BAD,
    NEVER_MS,
    P0,
    P1,
    batch,
    is_waiting,
    plan,
    soon,
    starts,
    stream_of,
    values_of,
)

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.rejects import AgentStoppedError
from streamapp.engine.subscriptions import fail_in_hand
from streamapp.engine.window_feed import WindowFeed

KINDS = pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])


@KINDS
async def test_position_follows_the_events_that_are_done(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 5)])
    feed.put(batch(0, [1, 2, 3], offsets=[5, 9, 12], next_offset=20, times=[7, 3, 8]))
    values = values_of(feed)
    seen = [(await soon(values), feed.position(P0), feed.time(P0)) for _ in range(3)]
    assert seen == [(1, 5, NEVER_MS), (2, 9, 7), (3, 12, 7)]
    assert feed.has_in_hand([P0])
    assert not feed.has_in_hand([P1])
    assert await is_waiting(values)
    assert (feed.position(P0), feed.time(P0)) == (20, 8)
    assert not feed.has_in_hand([P0])
    assert feed.buffered(P0) == 0


@KINDS
async def test_partitions_take_turns_and_are_counted_apart(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0), (P1, 3)])
    first = feed.put(batch(0, [1]))
    assert feed.put(batch(1, [2])) == 2 * first
    assert feed.put(batch(3, [3], tp=P1)) == first
    assert feed.queued == 3
    values = values_of(feed)
    assert [await soon(values) for _ in range(3)] == [1, 2, 3]
    assert (feed.position(P0), feed.position(P1)) == (2, 3)
    assert await is_waiting(values)
    assert feed.position(P1) == 4
    assert feed.stats.events == 3
    assert feed.stats.bytes == 30


@KINDS
async def test_records_that_are_done_are_left_out(kind: type[Feed]) -> None:
    feed = kind(plan())
    # Their times are part of the one that the feed starts with.
    starts(feed, [(P0, 3)], time_ms=60)
    assert feed.put(batch(0, [1, 2], times=[50, 2], next_offset=3)) == 0
    assert (feed.position(P0), feed.time(P0)) == (3, 60)
    assert feed.put(batch(2, [9, 3], times=[60, 4])) > 0
    values = values_of(feed)
    assert await soon(values) == 3
    assert (feed.position(P0), feed.time(P0)) == (3, 60)
    assert await is_waiting(values)
    assert (feed.position(P0), feed.time(P0)) == (4, 60)
    # Behind a hole: the position goes to where the broker goes on.
    assert feed.put(batch(0, [1], offsets=[1], next_offset=30)) == 0
    assert feed.position(P0) == 30


async def test_batch_that_comes_twice_is_handed_out_once() -> None:
    feed = ChunkFeed(plan())
    starts(feed, [(P0, 0)])
    for _ in range(2):
        feed.put(batch(0, [1, 2]))
    feed.put(batch(2, [3]))
    values = values_of(feed)
    assert [await soon(values) for _ in range(3)] == [1, 2, 3]
    assert await is_waiting(values)
    assert feed.buffered(P0) == 0


@KINDS
async def test_foreign_partitions_and_stopped_feeds_take_nothing(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0)])
    assert feed.put(batch(0, [1], tp=P1)) == 0
    assert feed.buffered(P1) == 0
    assert feed.owns(P0)
    assert not feed.owns(P1)
    feed.put(batch(0, [1]))
    feed.stop()
    assert feed.buffered(P0) == 0
    assert feed.put(batch(1, [2])) == 0
    assert feed.position(P0) == 0
    assert await is_waiting(values_of(feed))


@KINDS
async def test_hold_lets_the_event_in_hand_finish_and_no_other(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0), (P1, 0)])
    feed.put(batch(0, [1, 2]))
    feed.put(batch(2, [3]))
    feed.put(batch(0, [10], tp=P1))
    values = values_of(feed)
    assert await soon(values) == 1
    feed.hold([P0])
    assert feed.has_in_hand([P0])
    assert await soon(values) == 10
    assert not feed.has_in_hand([P0])
    assert feed.position(P0) == 1


@KINDS
async def test_revoked_event_has_no_effect_and_the_next_owner_begins_with_it(
    kind: type[Feed],
) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0), (P1, 0)])
    feed.put(batch(0, [1, 2]))
    feed.put(batch(0, [10], tp=P1))
    values = values_of(feed)
    assert await soon(values) == 1
    feed.revoke([P0])
    assert not feed.owns(P0)
    assert await soon(values) == 10
    feed.start(P0, 0, NEVER_MS)
    feed.put(batch(0, [1, 2]))
    assert [await soon(values) for _ in range(2)] == [1, 2]
    assert feed.position(P0) == 1
    assert len(feed.plan.outbox) == 0


@KINDS
async def test_bad_records_between_good_ones_become_dead_letters(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [BAD, 1, BAD, BAD, 2, BAD]))
    values = values_of(feed)
    assert [await soon(values) for _ in range(2)] == [1, 2]
    assert await is_waiting(values)
    letters = feed.plan.outbox.take()
    assert [dict(letter.headers)["dead-letter-offset"] for letter in letters] == [
        b"0", b"2", b"3", b"5",
    ]  # fmt: skip
    assert feed.position(P0) == 6
    assert (feed.stats.dead_letters, feed.stats.events) == (4, 6)


@KINDS
async def test_bad_record_is_skipped_or_stops_as_the_policy_says(kind: type[Feed]) -> None:
    feed = kind(plan(ErrorPolicy(then="skip")))
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [BAD, 1]))
    assert await soon(values_of(feed)) == 1
    assert feed.stats.skipped == 1
    feed = kind(plan(ErrorPolicy(then="stop")))
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, BAD, 2]))
    values = values_of(feed)
    assert await soon(values) == 1
    with pytest.raises(AgentStoppedError):
        await soon(values)
    feed.stop()
    assert feed.position(P0) == 1
    assert not feed.has_in_hand([P0])


async def test_closed_gate_holds_between_events_only() -> None:
    for kind in (ChunkFeed, WindowFeed):
        feed = kind(plan())
        starts(feed, [(P0, 0)])
        feed.put(batch(0, [1, 2]))
        values = values_of(feed)
        assert await soon(values) == 1
        feed.plan.gate.close("test")
        task = asyncio.ensure_future(anext(values))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        assert feed.position(P0) == 1
        feed.plan.gate.open("test")
        assert await asyncio.wait_for(task, 5) == 2


# --- failures ------------------------------------------------------------------------------------


async def test_chunk_is_tried_again_and_given_up() -> None:
    feed = ChunkFeed(plan(ErrorPolicy(retries=2, backoff_ms=0)))
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2]))
    chunk = await feed.begin()
    for failure in range(3):
        chunk.given = chunk.at + 1
        feed.scope.outputs.append(OutRecord(P1, None, b"x", 0))
        await feed.fail(chunk, ValueError("bad luck"))
        assert chunk.at == (1 if failure == 2 else 0)
        assert not feed.scope.outputs
        assert not chunk.is_held
    (letter,) = feed.plan.outbox.take()
    assert letter.tp == TP("dead", 0)
    assert feed.stats.retries == 2
    assert feed.position(P0) == 1
    # The next record has tries of its own.
    chunk.given = 2
    await feed.fail(chunk, ValueError("bad luck"))
    assert feed.position(P0) == 1


async def test_chunk_of_several_is_split_and_each_has_its_own_tries() -> None:
    feed = ChunkFeed(plan(ErrorPolicy(retries=1, backoff_ms=0, then="skip")))
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2, 3]))
    chunk = await feed.begin()
    for _ in range(2):
        chunk.given = chunk.run(2)
        await feed.fail(chunk, ValueError())
    for _ in range(2):
        assert (chunk.at, chunk.most(2)) == (0, 1)
        chunk.given = 1
        await feed.fail(chunk, ValueError())
    assert chunk.at == 1
    assert feed.stats.skipped == 1


async def test_slot_is_tried_again_split_and_given_up_without_holding_up_others() -> None:
    feed = WindowFeed(plan(ErrorPolicy(retries=1, backoff_ms=0)))
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2, 3], times=[9, 5, 20]))
    pair, last = await feed.begin(2), await feed.begin(2)
    assert (pair.values, last.values) == ([1, 2], [3])
    feed.finish(last)
    assert feed.position(P0) == 0
    assert await feed.fail(pair, ValueError()) is True
    assert await feed.fail(pair, ValueError()) is False
    first, second = await feed.begin(), await feed.begin()
    assert [slot.values for slot in (first, second)] == [[1], [2]]
    assert (first.timestamp_ms, second.timestamp_ms) == (9, 5)
    assert (first.scope.now_ms, second.scope.now_ms) == (9, 9)
    feed.finish(first)
    assert (feed.position(P0), feed.time(P0)) == (1, 9)
    for again in (True, False):
        assert await feed.fail(second, ValueError()) is again
    assert (feed.position(P0), feed.time(P0)) == (3, 20)
    assert len(feed.plan.outbox) == 1
    assert feed.stats.events == 3
    assert feed.buffered(P0) == 0


async def test_slots_take_effect_in_offset_order() -> None:
    feed = WindowFeed(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2, 3]))
    slots = [await feed.begin() for _ in range(3)]
    for slot in slots:
        slot.scope.outputs.append(OutRecord(P1, None, b"%d" % slot.values[0], 0))
    for slot, position in ((slots[2], 0), (slots[1], 0), (slots[0], 3)):
        feed.finish(slot)
        feed.finish(slot)  # a second time does nothing
        assert feed.position(P0) == position
    assert [record.value for record in feed.plan.outbox.take()] == [b"1", b"2", b"3"]


async def test_window_is_bounded_and_goes_on_when_its_head_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamapp.engine.window_feed._WINDOW", 2)
    feed = WindowFeed(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2, 3]))
    first, second = await feed.begin(), await feed.begin()
    feed.finish(second)
    third = asyncio.ensure_future(feed.begin())
    await asyncio.sleep(0)
    assert not third.done()
    feed.finish(first)
    assert (await asyncio.wait_for(third, 5)).values == [3]


async def test_slot_handed_back_is_handed_out_again() -> None:
    feed = WindowFeed(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2]))
    first, second = await feed.begin(), await feed.begin()
    feed.hand_back(first)
    assert await feed.begin() is first
    feed.finish(first)
    feed.hand_back(first)
    feed.revoke([P0])
    feed.hand_back(second)
    feed.finish(second)
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1]))
    assert (await feed.begin()).values == [1]


async def test_chunk_handed_back_is_handed_out_again() -> None:
    feed = ChunkFeed(plan())
    feed.hand_back()
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1]))
    values = values_of(feed)
    assert await soon(values) == 1
    feed.hand_back()
    assert not feed.has_in_hand([P0])
    assert await soon(values_of(feed)) == 1


@pytest.mark.parametrize("outer_kind", [ChunkFeed, WindowFeed])
async def test_events_of_streams_around_the_one_that_fails_are_handed_out_again(
    outer_kind: type[Feed],
) -> None:
    outer, inner = outer_kind(plan()), ChunkFeed(plan(ErrorPolicy(retries=0, then="skip")))
    streams = []
    for feed in (outer, inner):
        starts(feed, [(P0, 0)])
        feed.put(batch(0, [1, 2]))
        streams.append(stream_of(feed))
    around, within = (
        values_of(feed, stream) for feed, stream in zip((outer, inner), streams, strict=True)
    )
    assert [await soon(around), await soon(within)] == [1, 1]
    assert await fail_in_hand(streams, ValueError())
    assert inner.position(P0) == 1
    assert outer.position(P0) == 0
    assert await soon(values_of(outer, streams[0])) == 1
    assert outer.position(P0) == 0
    assert not await fail_in_hand([], ValueError())
