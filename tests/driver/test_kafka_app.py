"""``streamapp.App`` over a real Kafka: the same application, the guarantees, what leaves when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import NewPartitions
from support.brokers import KafkaBrokers, numbered, read_all, record
from support.engine_app import running, until

import streamapp
from streamapp.core.batch import TP
from streamapp.transport.driver import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamapp.transport.broker import Broker

IN, OUT = TP("in", 0), TP("out", 0)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[KafkaBrokers]:
    brokers = KafkaBrokers(tmp_path)
    yield brokers
    brokers.close_all()


def application(brokers: KafkaBrokers, folder: Path, **options: object) -> streamapp.App:
    """Make the application of the README, with an output and a topic of its own in the middle."""
    app = streamapp.App(
        "shop",
        broker=f"kafka://{brokers.servers},{brokers.servers}?prefix={brokers.prefix}",
        datadir=str(folder),
        topic_partitions=1,
        web_enabled=False,
        **{"commit_interval": "20ms", **options},
    )
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    tails = app.Table("tails", key_type=str, value_type=int, default=int)
    source = app.topic("in", key_type=str, value_type=str)
    middle = app.topic("middle", key_type=str, value_type=str)
    out = app.topic("out", key_type=str, value_type=str)

    @app.agent(source)
    async def count(stream: streamapp.Stream) -> None:
        async for key, value in stream.items():
            counts[key] += 1
            await out.send(key=key, value=value)
            await middle.send(key=key, value=value)

    @app.agent(middle)
    async def tail(stream: streamapp.Stream) -> None:
        async for value in stream:
            tails[value[-1]] += 1

    return app


async def in_thread(function: object, *args: object) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)  # type: ignore[arg-type] # by name


def feed(broker: Broker, count: int) -> None:
    broker.append(
        [record._replace(value=b'"%s"' % (record.value or b"")) for record in numbered(IN, count)]
    )


@pytest.mark.parametrize("guarantee", [None, "exactly_once", "at_least_once"])
async def test_same_application_counts_over_kafka(
    brokers: KafkaBrokers, tmp_path: Path, guarantee: str | None
) -> None:
    broker = await in_thread(brokers.open)
    for turn in (1, 2):
        app = application(brokers, tmp_path, guarantee=guarantee)
        async with running(app):
            assert isinstance(app.transport, Transport)
            await in_thread(feed, broker, 100)
            await until(lambda app=app, turn=turn: sum(app.tables["tails"].values()) == 100 * turn)
            assert sum(app.tables["counts"].values()) == 100 * turn
            assert set(app.tables["counts"].values()) == {turn}
    outputs = await in_thread(read_all, broker, OUT)
    assert [value for _, value in outputs] == [b'"v%d"' % i for _ in "12" for i in range(100)]


def grow(broker: Any, topic: str, count: int) -> None:
    cluster = broker._cluster
    new = NewPartitions(cluster.names.theirs(topic), count)
    (done,) = cluster.admin.client.create_partitions([new]).values()
    done.result(10)


def watching(
    brokers: KafkaBrokers, folder: Path, *, query: str = "", **options: Any
) -> streamapp.App:
    """Make an application without tables that looks for new partitions all the time."""
    refresh = "rdkafka.topic.metadata.refresh.interval.ms=200"
    url = f"kafka://{brokers.servers}?prefix={brokers.prefix}&{refresh}{query}"
    return streamapp.App(
        "shop", broker=url, datadir=str(folder), topic_partitions=1, web_enabled=False, **options
    )


async def test_partitions_that_are_added_are_read(brokers: KafkaBrokers, tmp_path: Path) -> None:
    app, broker = watching(brokers, tmp_path), await in_thread(brokers.open)
    seen: set[str] = set()

    @app.agent(app.topic("in", value_type=str))
    async def read(stream: streamapp.Stream) -> None:
        async for value in stream:
            seen.add(value)

    async with running(app):
        await in_thread(grow, broker, "in", 3)
        await until(lambda: len(app.engine.owned) == 3)
        new = [record(TP("in", number), b"k", b"%d" % number) for number in range(3)]
        await in_thread(broker.append, new)
        await until(lambda: seen == {"0", "1", "2"})


async def test_worker_with_tables_ends_where_partitions_are_added(
    brokers: KafkaBrokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who has which partition of a table follows from the counts: two workers would have one."""
    app, broker = regrouping(watching(brokers, tmp_path)), await in_thread(brokers.open)
    async with running(app):
        await in_thread(grow, broker, "in", 3)
        await until(lambda: app.engine.crashed)
    assert "Topic in has 3 partitions now, and had 1 before. Start the worker" in caplog.text
    async with running(regrouping(watching(brokers, tmp_path))) as again:
        await until(lambda: {TP("in", number) for number in range(3)} <= again.engine.owned)


def regrouping(app: streamapp.App) -> streamapp.App:
    sold = app.Table("sold", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", value_type=str))
    async def count(stream: streamapp.Stream) -> None:
        async for value in stream.group_by(str, name="same"):
            sold[value] += 1

    return app


async def test_application_that_reads_nothing_sends(brokers: KafkaBrokers, tmp_path: Path) -> None:
    app, broker = watching(brokers, tmp_path), await in_thread(brokers.open)
    out = app.topic("out", value_type=str)
    sent: list[str] = []

    @app.timer(0.01)
    async def tick() -> None:
        await (await out.send(value="tick"))
        sent.append("tick")

    async with running(app):
        await until(lambda: len(sent) > 1)
        assert app.engine.phase.name == "RUNNING"
    assert len(await in_thread(read_all, broker, OUT)) >= 2


async def test_worker_whose_name_another_one_takes_ends(
    brokers: KafkaBrokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def named(folder: str) -> streamapp.App:
        return regrouping(watching(brokers, tmp_path / folder, query="&instance_id=w1"))

    async with running(named("1")) as first, running(named("2")) as second:
        await until(lambda: first.engine.crashed)
        await until(lambda: IN in second.engine.owned)
        assert not second.engine.crashed
    assert "Another worker began with the same instance_id" in caplog.text
