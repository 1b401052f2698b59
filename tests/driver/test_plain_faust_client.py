"""``agent.ask`` of a plain ``faust.App`` on our brokers, server and client in one process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import faust
import pytest

from streamapp.core.batch import TP
from streamapp.transport.broker import TopicSpec
from streamapp.transport.partitioner import StickyChooser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from faust.agents import Agent

DEADLINE_S = 15.0


@pytest.fixture(params=["memory", "sqlite"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"sqlite://{tmp_path}/bus"


def new_app(url: str, folder: Path) -> faust.App:
    return faust.App(
        "inside",
        broker=url,
        datadir=folder,
        store="memory://",
        topic_partitions=4,
        web_enabled=False,
        stream_wait_empty=False,
    )


@asynccontextmanager
async def asking(broker_url: str, folder: Path) -> AsyncIterator[Agent]:
    """The client's side of an agent that doubles, while its server runs."""
    server, client = (new_app(broker_url, folder) for _ in range(2))

    async def double(stream: faust.Stream[int]) -> AsyncIterator[int]:
        async for number in stream:
            yield 2 * number

    server.agent(server.topic("asked", value_type=int))(double)
    async with server:
        try:
            yield client.agent(client.topic("asked", value_type=int))(double)
        finally:
            await client.stop()


async def test_agent_answers_a_client(broker_url: str, tmp_path: Path) -> None:
    async with asking(broker_url, tmp_path) as agent:
        assert await asyncio.wait_for(agent.ask(21), DEADLINE_S) == 42


async def test_client_reads_all_partitions_of_its_answers(
    broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever answers before the client has declared its topic makes one of four partitions.
    monkeypatch.setattr(StickyChooser, "choose", lambda _self, _topic, partitions: partitions - 1)
    async with asking(broker_url, tmp_path) as agent:
        broker = agent.app.transport.broker
        answers = agent.app.conf.reply_to
        broker.create_topic(TopicSpec(answers, 4))
        assert [await asyncio.wait_for(agent.ask(n), DEADLINE_S) for n in (1, 2)] == [2, 4]
        last = TP(answers, 3)
        assert broker.offsets([last])[last].end == 2


async def test_client_that_subscribes_anew_goes_on_where_it_was(
    broker_url: str, tmp_path: Path
) -> None:
    async with asking(broker_url, tmp_path) as agent:
        assert await asyncio.wait_for(agent.ask(1), DEADLINE_S) == 2
        consumer = agent.app.consumer
        answers = TP(agent.app.conf.reply_to, 0)
        before = pumps()
        await consumer.subscribe([answers.topic])
        assert pumps() == before
        assert await consumer.position(answers) == 1
        assert await asyncio.wait_for(agent.ask(2), DEADLINE_S) == 4


def pumps() -> int:
    return sum(thread.name == "streamapp-pump" for thread in threading.enumerate())
