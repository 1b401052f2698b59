"""``take``: lists of records of one partition, full or late, and what happens meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from support.feeds import BAD, P0, P1, batch, is_waiting, plan, soon, starts, stream_of

from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.window_feed import WindowFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

F = TypeVar("F", bound=Feed)


#: Lists wait alike without and with concurrency.
both_kinds = pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])


async def _started(*partitions: Any, policy: ErrorPolicy | None = None) -> ChunkFeed:
    return _made(ChunkFeed, *partitions, policy=policy)


def _made(kind: type[F], *partitions: Any, policy: ErrorPolicy | None = None) -> F:
    feed = kind(plan(policy))
    starts(feed, [(tp, 0) for tp in partitions or (P0,)])
    return feed


def _groups(feed: Feed, most: int, patience_s: float = 0) -> AsyncIterator[list[Any]]:
    stream = stream_of(feed)
    if isinstance(feed, WindowFeed):
        return (slot.values async for slot in stream._windowed(feed, most, patience_s))
    assert isinstance(feed, ChunkFeed)
    return stream._grouped(feed, most, patience_s)


async def test_lists_end_at_bad_records_and_at_the_size() -> None:
    for kind in (ChunkFeed, WindowFeed):
        feed = kind(plan())
        starts(feed, [(P0, 0)])
        feed.put(batch(0, [1, 2, 3, BAD, 4, BAD, BAD, 5]))
        groups = _groups(feed, 2)
        assert [await soon(groups) for _ in range(4)] == [[1, 2], [3], [4], [5]]
        assert feed.stats.dead_letters == 3


@both_kinds
async def test_list_waits_for_more_and_event_time_includes_it(kind: type[Feed]) -> None:
    feed = _made(kind)
    feed.put(batch(0, [1], times=[5]))
    groups = _groups(feed, 3, 60)
    group = asyncio.ensure_future(anext(groups))
    for offset, time_ms in ((1, 50), (2, 7)):
        await asyncio.sleep(0)
        assert not group.done()
        feed.put(batch(offset, [offset + 1], times=[time_ms]))
    assert await asyncio.wait_for(group, 5) == [1, 2, 3]
    feed.plan.gate.close("test")
    assert not await _comes(groups)
    assert (feed.position(P0), feed.time(P0)) == (3, 50)


async def _comes(groups: AsyncIterator[list[Any]]) -> bool:
    """Tell whether a list is handed out at once; ends the iterator."""
    return not await is_waiting(groups)


async def test_event_time_of_gathered_records_outlives_the_run() -> None:
    feed = await _started()
    feed.put(batch(0, [1], times=[5]))
    feed.put(batch(1, [2], times=[50]))
    groups = _groups(feed, 2)
    assert await soon(groups) == [1, 2]
    feed.put(batch(2, [3], times=[6]))
    assert await soon(groups) == [3]
    assert feed.time(P0) == 50
    assert feed.scope.now_ms == 50


@both_kinds
async def test_list_is_handed_out_when_its_patience_ends(kind: type[Feed]) -> None:
    feed = _made(kind)
    feed.put(batch(0, [1]))
    assert await soon(_groups(feed, 3, 0.01)) == [1]


@both_kinds
async def test_list_is_handed_out_when_other_partitions_wait(kind: type[Feed]) -> None:
    feed = _made(kind, P0, P1)
    feed.put(batch(0, [1]))
    groups = _groups(feed, 3, 60)
    group = asyncio.ensure_future(anext(groups))
    await asyncio.sleep(0)
    feed.put(batch(0, [10], tp=P1))
    assert await asyncio.wait_for(group, 5) == [1]


@both_kinds
@pytest.mark.parametrize("how", ["hold", "revoke"])
async def test_list_of_a_partition_that_is_taken_away_is_not_handed_out(
    kind: type[Feed], how: str
) -> None:
    feed = _made(kind, P0, P1)
    feed.put(batch(0, [1]))
    groups = _groups(feed, 3, 60)
    group = asyncio.ensure_future(anext(groups))
    await asyncio.sleep(0)
    getattr(feed, how)([P0])
    assert not feed.has_in_hand([P0])
    for _ in range(10):
        await asyncio.sleep(0)
    feed.put(batch(0, [10, 11, 12], tp=P1))
    assert await asyncio.wait_for(group, 5) == [10, 11, 12]
    if how == "hold":
        assert feed.position(P0) == 0


async def test_what_is_left_of_a_run_waits_for_more_while_the_rest_is_in_hand() -> None:
    feed = _made(WindowFeed)
    feed.put(batch(0, [1, 2, 3]))
    slow, fast = _groups(feed, 2, 60), _groups(feed, 2, 60)
    assert await soon(slow) == [1, 2]
    group = asyncio.ensure_future(anext(fast))
    await asyncio.sleep(0)
    feed.put(batch(3, [4, 5]))
    assert await asyncio.wait_for(group, 5) == [3, 4]
    last = asyncio.ensure_future(anext(fast))
    await asyncio.sleep(0)
    # What is in the slow one's hands comes first.
    assert feed.position(P0) == 0
    feed.put(batch(5, [6], times=[70]))
    assert await asyncio.wait_for(last, 5) == [5, 6]
    for groups in (slow, fast):
        await is_waiting(groups)
    assert (feed.position(P0), feed.time(P0), feed.buffered(P0)) == (6, 70, 0)


async def test_gate_holds_between_two_lists() -> None:
    feed = await _started()
    feed.put(batch(0, [1, 2]))
    groups = _groups(feed, 1)
    assert await soon(groups) == [1]
    feed.plan.gate.close("test")
    group = asyncio.ensure_future(anext(groups))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not group.done()
    assert feed.position(P0) == 1
    feed.plan.gate.open("test")
    assert await asyncio.wait_for(group, 5) == [2]


async def test_records_of_a_list_that_failed_come_one_by_one() -> None:
    feed = await _started(policy=ErrorPolicy(retries=0, then="skip"))
    feed.put(batch(0, [1, 2, 3]))
    assert await soon(_groups(feed, 2)) == [1, 2]
    assert feed.chunk is not None
    await feed.fail(feed.chunk, ValueError())
    groups = _groups(feed, 2)
    assert [await soon(groups) for _ in range(3)] == [[1], [2], [3]]
