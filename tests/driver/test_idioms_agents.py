"""Faust's ways of writing agents, and of an application around them."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp.core.batch import TP
from streamapp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- agents --------------------------------------------------------------------------------------


async def test_yield_and_sinks(bench: Bench) -> None:
    app = bench.app()
    doubled = app.topic("doubled", value_type=int)
    called: list[int] = []
    received: list[int] = []

    @app.agent(app.topic("received", value_type=int))
    async def receive(stream: Any) -> None:
        async for value in stream:
            received.append(value)  # noqa: PERF401 - what an agent does

    async def call(value: int) -> None:
        called.append(value)

    @app.agent(app.topic("in", value_type=int), sink=[doubled, receive, call])
    async def double(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            yield value * 2

    async with running(app):
        put(bench, "in", (None, 1), (None, 2))
        await until(lambda: received == [2, 4])
        await until(lambda: values(bench, "doubled") == [2, 4])
    assert called == [2, 4]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_sends_inside_of_an_event_are_one_with_it(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=int)
    tries: list[int] = []

    @app.agent(
        app.topic("in", value_type=int),
        concurrency=concurrency,
        on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1),
    )
    async def forward(stream: Any) -> None:
        async for value in stream:
            tries.append(value)
            await out.send(key="k", value=value)
            await app.send("other", key="k", value=value)
            await asyncio.sleep(0)
            if tries.count(value) < 2:
                msg = "not yet"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1), (None, 2), (None, 3), timestamp_ms=77_000)
        await until(lambda: bench.position("in") == 3)
    assert values(bench, "out") == [1, 2, 3]
    assert values(bench, "other") == [1, 2, 3]
    reader = bench.broker.reader()
    reader.assign({TP("out", 0): 0})
    assert [t for batch in reader.poll(0, 10) for t in batch.timestamps] == [77_000] * 3
    reader.close()


async def test_sends_outside_of_events(bench: Bench) -> None:
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=int)
    async with running(app):
        sent = await out.send(key="k", value=1, headers={"h": b"1"}, timestamp=2.5)
        metadata = await sent
        await app.send("out", key="k", value=2)
        await out.send(key="k", value=None)
        await until(lambda: len(bench.log("out")) == 3)
    assert (metadata.topic, metadata.partition, metadata.offset) == ("out", 0, 0)
    assert bench.log("out") == [(b"k", b"1"), (b"k", b"2"), (b"k", None)]


async def test_cast_and_ask_in_the_same_worker(bench: Bench) -> None:
    app = bench.app()
    answers: list[Any] = []
    noted: list[int] = []

    @app.agent(app.topic("add", value_type=int))
    async def add(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            noted.append(value)
            yield value + 1

    @app.timer(0.05)
    async def ask() -> None:
        answers.append(await add.ask(41))

    @app.task
    async def say() -> None:
        await add.cast(1)

    async with running(app):
        await until(lambda: len(answers) >= 2)
        await until(lambda: 1 in noted)
    assert set(answers) == {42}


async def test_ask_of_a_client(bench: Bench) -> None:
    app = bench.app()

    @app.agent(app.topic("add", value_type=int))
    async def add(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            yield value + 1

    client = bench.app()

    @client.agent(client.topic("add", value_type=int), name=add.name)
    async def remote(stream: Any) -> None:
        """Only asked here."""

    async with running(app):
        await client.start_client()
        try:
            assert await asyncio.wait_for(remote.ask(41), 10) == 42
            assert [v async for v in remote.map([1, 2])] in ([2, 3], [3, 2])
            assert sorted(await remote.join([5, 6])) == [6, 7]
        finally:
            await client.stop()


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_concurrency_gives_the_sequential_result(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    state = app.Table("state", default=int)

    @app.agent(app.topic("in", value_type=int), concurrency=concurrency)
    async def fold(stream: Any) -> None:
        async for value in stream:
            before = state["x"]
            await asyncio.sleep(0.001 * (value % 3))
            state["x"] = (before * 31 + value) % 1_000_003

    expected = 0
    for value in range(30):
        expected = (expected * 31 + value) % 1_000_003
    async with running(app):
        put(bench, "in", *((None, value) for value in range(30)))
        await until(lambda: bench.position("in") == 30)
        assert state["x"] == expected


async def test_agent_over_a_channel(bench: Bench) -> None:
    app = bench.app()
    channel = app.channel(value_type=int)
    out = app.topic("out", value_type=int)
    groups: list[Any] = []

    @app.agent(channel)
    async def double(stream: Any) -> None:
        async for value in stream:
            await out.send(value=value * 2)

    other = app.channel()

    @app.agent(other)
    async def group(stream: Any) -> None:
        async for pair in stream.take(2, within=1):
            groups.append(pair)  # noqa: PERF401 - what an agent does

    async with running(app):
        await channel.send(value=4)
        await double.send(value=5)
        for value in (1, 2):
            await other.send(value=value)
        await until(lambda: values(bench, "out") == [8, 10])
        await until(lambda: groups == [[1, 2]])


async def test_agents_test_context(bench: Bench) -> None:
    app = bench.app()
    seen: list[int] = []

    @app.agent(app.topic("in", value_type=int))
    async def double(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            seen.append(value)
            yield value * 2

    async with double.test_context() as agent:
        event = await agent.put(4)
        assert agent.results[event.message.offset] == 8
    assert seen == [4]


# --- the application -----------------------------------------------------------------------------


async def test_timer_task_and_page(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = bench.app(web_enabled=True, web_port=port)
    happened: list[str] = []

    @app.timer(0.01)
    async def tick() -> None:
        happened.append("tick")

    @app.task
    async def once() -> None:
        happened.append("once")

    @app.page("/count/")
    async def count(self: Any, request: Any) -> Any:
        assert request.method == "GET"
        return self.json({"ticks": happened.count("tick")})

    async with running(app), aiohttp.ClientSession() as session:
        await until(lambda: happened.count("tick") > 2)
        async with session.get(f"http://127.0.0.1:{port}/count/") as response:
            assert response.status == 200
            assert (await response.json())["ticks"] > 2
    assert happened.count("once") == 1


@pytest.mark.parametrize("name", ["GlobalTable", "SetTable", "SetGlobalTable"])
def test_tables_that_are_not_offered_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        getattr(bench.app(), name)("t")


def test_faust_reset_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="faust reset is not supported"):
        bench.app().Table("t").reset_state()
