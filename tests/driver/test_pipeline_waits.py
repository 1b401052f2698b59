"""Partitions of a pipeline wait for themselves: for their rate, for room, for the next try."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp import ErrorPolicy
from streamapp.core.batch import TP

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.pipelines.flow import Flow


@pytest.fixture
def bench() -> Bench:
    return Bench()


def no_zero(number: int) -> int:
    if not number:
        raise ConnectionError
    return number


#: Ways in which partition 0 waits for much longer than the test lasts, behind its first record.
WAYS: dict[str, Callable[[Flow], Flow]] = {
    "rate_limit": lambda flow: flow.rate_limit(1, per="1h", excess="delay"),
    "buffer": lambda flow: flow.buffer(1, rate=1, per="1h"),
    "retry": lambda flow: flow.map(no_zero),
}


def waiting(bench: Bench, way: Callable[[Flow], Flow], topics: int = 1) -> streamapp.App:
    app = bench.app(topic_partitions=2)
    policy = ErrorPolicy(backoff_ms=3_600_000, then="retry")
    pipeline = app.pipeline("p", on_error=policy)
    names = ["in", "other"][:topics]
    first, *others = (
        pipeline.source(app.topic(name, value_type=int, partitions=2)) for name in names
    )
    way(first.merge(*others) if others else first).to(topic="out")
    return app


def positions(bench: Bench, topic: str = "in") -> list[int]:
    """Return what is committed of both partitions."""
    tps = [TP(topic, number) for number in range(2)]
    found = bench.broker.committed("bench", tps)
    return [found[tp].offset if tp in found else 0 for tp in tps]


def results(bench: Bench) -> list[Any]:
    if "out" not in bench.broker.topics():
        return []
    return sorted(int(value or b"0") for number in (0, 1) for _, value in bench.log("out", number))


@pytest.mark.parametrize("way", WAYS)
async def test_partition_that_waits_holds_up_no_other(bench: Bench, way: str) -> None:
    """The stage waited as a whole, so each partition got its rate only when none other waited."""
    async with running(waiting(bench, WAYS[way])) as app:
        put(bench, "in", *((None, number) for number in (7, 0, 0, 0)))
        (runner,) = app.engine.pipelines.runners
        tp = TP("in", 0)
        await until(lambda: runner.feed.chunk is None and runner.feed.position(tp) > 0)
        waits_at = runner.feed.position(tp)
        put(bench, "in", (None, 8), partition=1)
        await until(lambda: 8 in results(bench))
        # What comes to the one that waits stays behind it.
        put(bench, "in", (None, 9))
        await until(lambda: runner.feed.queued == 1)
        await until(lambda: positions(bench) == [waits_at, 1])
    assert results(bench) == [7, 8]


@pytest.mark.parametrize("way", WAYS)
async def test_topics_of_a_partition_wait_together(bench: Bench, way: str) -> None:
    async with running(waiting(bench, WAYS[way], topics=2)) as app:
        put(bench, "in", *((None, number) for number in (7, 0, 0)))
        await until(lambda: 7 in results(bench))
        (runner,) = app.engine.pipelines.runners
        await until(lambda: runner.feed.chunk is None and runner.feed.buffered(TP("in", 0)) > 0)
        put(bench, "other", (None, 1))
        put(bench, "other", (None, 2), partition=1)
        await until(lambda: 2 in results(bench))
        assert positions(bench, "other") == [0, 1]


async def test_partition_that_waits_is_given_up_at_once(bench: Bench) -> None:
    """A record between two tries was in hand: others waited for it when partitions moved."""
    app = waiting(bench, WAYS["retry"])
    async with running(app):
        put(bench, "in", (None, 0), (None, 1))
        (runner,) = app.engine.pipelines.runners
        await until(lambda: runner.feed.stats.retries == 1)
        assert not runner.feed.has_in_hand([TP("in", 0)])
        app.engine.group.rejoin_soon()
        await until(lambda: runner.feed.stats.retries == 2)
    assert positions(bench)[0] == 0


async def test_records_that_waited_come_in_their_order(bench: Bench) -> None:
    app = bench.app(topic_partitions=2)
    source = app.topic("in", value_type=int, partitions=2)
    flow = app.pipeline("p").source(source).rate_limit(1, per="2ms", excess="delay")
    flow.to(topic="out")
    async with running(app):
        for number in range(40):
            put(bench, "in", (None, number), partition=number % 2)
            await asyncio.sleep(0)  # so that some come while others wait
        await until(lambda: positions(bench) == [20, 20])
    found = [int(value or b"") for number in (0, 1) for _, value in bench.log("out", number)]
    assert sorted(found) == [*range(40)]
    for parity in (0, 1):
        own = [number for number in values(bench, "out") if number % 2 == parity]
        assert own == sorted(own)
