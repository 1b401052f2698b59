"""Pipelines whose policy is to stop: what they have not seen counts after the repair."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values
from support.web_client import free_port

import streamapp

if TYPE_CHECKING:
    from collections.abc import Callable

#: Silence after which nobody waits for a partition, in seconds; the tests stop for longer.
_IDLE_S = 0.3


@pytest.fixture
def bench() -> Bench:
    return Bench()


def broken(value: Any) -> Any:
    if value["n"] < 0:
        raise ValueError(value)
    return value


def counting(bench: Bench, function: Callable[[Any], Any]) -> streamapp.App:
    """Declare windows behind a ``group_by`` of two partitions, and the function before it."""
    app = bench.app(topic_partitions=2)
    source = app.topic(
        "in", value_type=dict, partitions=2, event_time="ts", idle_after=f"{_IDLE_S}s"
    )
    flow = app.pipeline("p", on_error="stop").source(source).map(function).group_by("g")
    flow.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count()).to(topic="out")
    return app


async def test_windows_wait_for_a_partition_whose_stage_has_stopped(bench: Bench) -> None:
    """It was taken for silent: windows closed without it, and its records were late for good."""

    def event(ts: int, n: int = 1) -> tuple[None, dict[str, Any]]:
        return None, {"g": "x", "ts": ts, "n": n}

    async with running(counting(bench, broken)) as app:
        put(bench, "in", event(100), event(5_100), partition=1)
        put(bench, "in", event(100), event(200, -1), event(300), event(5_200))
        first = app.engine.pipelines.runners[0]
        await until(lambda: first.feed.is_stopped)
        await asyncio.sleep(3 * _IDLE_S)  # for longer than a silence lasts
    async with running(counting(bench, dict)) as app:
        for partition in (0, 1):
            put(bench, "in", event(90_000), partition=partition)
        await until(lambda: len(rows(bench)) == 2)
    assert rows(bench) == [(0, 4), (5_000, 2)]


def rows(bench: Bench) -> list[tuple[int, int]]:
    """Return start and count of the windows that have closed."""
    names = bench.broker.topics()
    found = [bench.log("out", number) for number in range(2)] if "out" in names else []
    return [read(value) for log in found for _, value in log]


def read(value: bytes | None) -> tuple[int, int]:
    row = json.loads(value or b"null")
    return row["start"], row["n"]


async def test_row_that_leaves_a_buffer_stops_the_pipeline_at_once(bench: Bench) -> None:
    """It stopped with the next record: until then all that was held went to the dead letters."""

    port = free_port()

    def make(function: Callable[[Any], Any]) -> streamapp.App:
        app = bench.app(web_enabled=True, web_port=port, web_host="127.0.0.1")
        flow = app.pipeline("p", on_error="stop").source(app.topic("in", value_type=dict))
        flow.buffer(100, rate=1, per="5ms").map(function).to(topic="out")
        return app

    async with running(make(broken)) as app:
        put(bench, "in", *((None, {"n": n}) for n in (1, 2, -3, 4, -5, 6)))
        (runner,) = app.engine.pipelines.runners
        await until(lambda: runner.feed.is_stopped)
        await asyncio.sleep(0.05)  # the time of ten rows
        assert values(bench, "out") == [{"n": 1}, {"n": 2}]
        assert values(bench, "bench-dead-letters") == [{"n": -3}]
        assert await state_of("p", port) == "failed"
    async with running(make(dict)):
        await until(lambda: len(values(bench, "out")) == 5)
    assert values(bench, "out") == [{"n": n} for n in (1, 2, 4, -5, 6)]


async def state_of(name: str, port: int) -> str:
    """Return what a worker says of an agent or pipeline."""
    url = f"http://127.0.0.1:{port}/api/v1/agents"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        told = (await answer.json())["agents"]
    return next(str(one["state"]) for one in told if one["name"] == name)
