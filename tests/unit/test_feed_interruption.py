"""Instances of an agent that are interrupted when their partition is taken away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.feeds import (
    P0,
    P1,
    batch,
    plan,
    starts,
    values_of,
)

from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed
from streamapp.engine.window_feed import WindowFeed

KINDS = pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])


# --- interruption --------------------------------------------------------------------------------


async def _work_on(feed: Feed, seen: list[Any], is_here: asyncio.Event) -> None:
    values = values_of(feed)
    while True:
        seen.append(await anext(values))
        is_here.set()
        await asyncio.Event().wait()


async def _instances(feed: Feed, count: int) -> tuple[list[asyncio.Task[None]], list[Any]]:
    seen: list[Any] = []
    tasks = []
    for _ in range(count):
        is_here = asyncio.Event()
        tasks.append(asyncio.create_task(_work_on(feed, seen, is_here)))
        feed.tasks.add(tasks[-1])
        await is_here.wait()
    return tasks, seen


@KINDS
async def test_revoke_interrupts_the_event_in_hand(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1]))
    (task,), seen = await _instances(feed, 1)
    feed.revoke([P0])
    await asyncio.wait([task])
    assert seen == [1]
    assert task.cancelled()
    assert feed.was_interrupted(task)
    assert not feed.was_interrupted(task)


async def test_only_instances_with_lost_events_are_interrupted() -> None:
    feed = WindowFeed(plan())
    starts(feed, [(P0, 0), (P1, 0)])
    feed.put(batch(0, [1]))
    feed.put(batch(0, [2], tp=P1))
    (lost, kept), _ = await _instances(feed, 2)
    feed.revoke([P0])
    await asyncio.wait([lost])
    await asyncio.sleep(0)
    assert feed.was_interrupted(lost)
    assert not feed.was_interrupted(kept)
    assert not kept.done()
    kept.cancel()
    await asyncio.wait([kept])


async def test_task_of_no_agent_is_not_interrupted() -> None:
    feed = ChunkFeed(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1]))
    (task,), _ = await _instances(feed, 1)
    feed.tasks.clear()
    feed.revoke([P0])
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
