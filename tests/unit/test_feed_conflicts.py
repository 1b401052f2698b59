"""Agents that meet at a row: who must run again, and when one of them runs alone."""

from __future__ import annotations

import asyncio

import pytest
from support.feeds import P0, batch, plan, soon, starts, values_of
from support.tables import TableBench

from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import Feed
from streamapp.engine.window_feed import WindowFeed

#: Conflicts of one event that are allowed before it runs alone.
ALLOWED = 3


@pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])
async def test_event_runs_again_until_nothing_it_read_has_changed(kind: type[Feed]) -> None:
    bench, feed = TableBench(partitions=2), kind(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [7, 8]))
    values = values_of(feed)
    for turn in range(ALLOWED + 2):
        assert await soon(values) == 7
        assert feed.position(P0) == 0
        bench.table["sum"] = bench.table.get("sum", 0) + 7
        assert feed.plan.gate.closed is (turn > ALLOWED)
        if turn <= ALLOWED:
            # Another agent's event, while this one awaits.
            with bench.event():
                bench.table["sum"] = bench.table.get("sum", 0) + 1
    assert await soon(values) == 8
    assert (feed.position(P0), feed.stats.conflicts) == (1, ALLOWED + 1)
    assert not feed.plan.gate.closed
    assert dict(bench.table.find("sum")) == {0: 7 + ALLOWED + 1}


@pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])
async def test_event_that_runs_alone_and_is_lost_holds_nobody(kind: type[Feed]) -> None:
    bench, feed = TableBench(partitions=2), kind(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [7]))
    values = values_of(feed)
    for _ in range(ALLOWED + 1):
        assert await soon(values) == 7
        bench.table["sum"] = bench.table.get("sum", 0) + 7
        with bench.event():
            bench.table["sum"] = bench.table.get("sum", 0) + 1
    assert await soon(values) == 7
    assert feed.plan.gate.closed
    feed.revoke([P0])
    assert not feed.plan.gate.closed
    assert await asyncio.wait_for(feed.plan.gate.wait(object()), 5) is None
    assert dict(bench.table.find("sum")) == {0: ALLOWED + 1}


@pytest.mark.parametrize("kind", [ChunkFeed, WindowFeed])
async def test_partition_that_starts_again_begins_at_its_position(kind: type[Feed]) -> None:
    feed = kind(plan())
    starts(feed, [(P0, 0)])
    feed.put(batch(0, [1, 2, 3]))
    values = values_of(feed)
    assert await soon(values) == 1
    feed.revoke([P0])
    starts(feed, [(P0, 1)])
    assert feed.position(P0) == 1
    feed.put(batch(0, [1, 2, 3]))
    assert [await soon(values) for _ in range(2)] == [2, 3]
    assert feed.position(P0) == 2
