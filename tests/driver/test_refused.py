"""A record or row that no broker would take meets the error policy of the event that makes it."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from support.brokers import KafkaBrokers, SqliteBrokers, read_all
from support.engine_app import running, until

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.errors import TooLargeError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.kafka import KafkaBroker
from streamapp.transport.sqlite.log import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.brokers import Brokers

    from streamapp.transport.broker import Broker

IN, OUT, LETTERS = TP("in", 0), TP("out", 0), TP("shop-dead-letters", 0)
#: Bytes that the topics of a test take.
MOST = {"kafka": 20_000, "sqlite": LIMITS.max_bytes or 0}


@pytest.fixture(params=["kafka", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def brokers(kind: str, tmp_path: Path) -> Iterator[Brokers]:
    brokers = (KafkaBrokers if kind == "kafka" else SqliteBrokers)(tmp_path / "bus")
    yield brokers
    brokers.close_all()


def url_of(brokers: Brokers) -> str:
    if isinstance(brokers, KafkaBrokers):
        return f"kafka://{brokers.servers}?prefix={brokers.prefix}&session_timeout=1s"
    return f"sqlite://{brokers.folder}"


def prepare(brokers: Brokers, values: list[bytes]) -> Broker:
    """Make the topics with small bounds, and write the input."""
    broker = brokers.open()
    names = ("in", "out", "shop-dead-letters", "shop-last-changelog")
    for name in names:
        kinds = {"compact"} if name.endswith("changelog") else {"delete"}
        broker.create_topic(TopicSpec(name, 1, frozenset(kinds), retention_ms=None))
    if isinstance(broker, KafkaBroker):
        for name in names[1:]:
            bound(brokers, name, "max.message.bytes", MOST["kafka"])
    broker.append([OutRecord(IN, b"k%d" % n, value, 1_000) for n, value in enumerate(values)])
    return broker


def bound(brokers: Brokers, topic: str, name: str, value: object) -> None:
    """Change a setting of a topic, as its owner would."""
    assert isinstance(brokers, KafkaBrokers)
    entry = ConfigEntry(name, str(value), incremental_operation=AlterConfigOpType.SET)
    what = ConfigResource(ResourceType.TOPIC, brokers.prefix + topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": brokers.servers, "log_level": 0})
    admin.incremental_alter_configs([what])[what].result(20)


def application(
    brokers: Brokers, folder: Path, what: str, guarantee: str | None = None
) -> streamapp.App:
    """Make an application whose input says how many bytes it makes of each record."""
    app = streamapp.App(
        "shop", broker=url_of(brokers), datadir=str(folder), topic_partitions=1,
        web_enabled=False, commit_interval="20ms", guarantee=guarantee,
    )  # fmt: skip
    last = app.Table("last", key_type=str, value_type=str)
    out = app.topic("out", key_type=str, value_type=str)

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def work(stream: streamapp.Stream) -> None:
        async for key, size in stream.items():
            if what == "outputs":
                await out.send(key=key, value="x" * size)
            elif what == "columns":
                await out.send_batch(key=[key], value=["x" * size])
            else:
                last[key] = "x" * size

    return app


def has_done(app: streamapp.App, offset: int) -> bool:
    """Tell whether all records below the offset are committed."""
    at = app.engine.group.committed.get(IN)
    return at is not None and at.offset == offset


@pytest.mark.parametrize("what", ["outputs", "columns", "rows"])
async def test_what_is_too_large_is_a_dead_letter_and_all_else_goes_on(
    kind: str, brokers: Brokers, tmp_path: Path, what: str
) -> None:
    # Characters of texts that are just small enough for JSON, which has a bound of its own.
    most = min(MOST[kind], 8 << 20) - 200
    sizes = [3, most, MOST[kind], 5]
    broker = await asyncio.to_thread(prepare, brokers, [b"%d" % size for size in sizes])
    app = application(brokers, tmp_path / "data", what)
    async with running(app):
        await until(lambda: has_done(app, len(sizes)))
        (agent,) = app.engine.subscriptions
        assert agent.stats.retries == 0
        assert agent.stats.dead_letters == 1
    found = await asyncio.to_thread(read_all, broker, LETTERS)
    assert [value for _, value in found] == [b"%d" % MOST[kind]]
    if what == "rows":
        made = await asyncio.to_thread(read_all, broker, TP("shop-last-changelog", 0))
        assert sorted(len(value or b"") - 2 for _, value in made) == [3, 5, most]
    else:
        made = await asyncio.to_thread(read_all, broker, OUT)
        assert [len(value or b"") for _, value in made] == [3, most, 5]


@pytest.mark.parametrize("kind", ["kafka"])  # elsewhere all topics take the same
async def test_letter_of_a_record_that_is_too_large_for_letters_is_cut(
    brokers: Brokers, tmp_path: Path
) -> None:
    broker = await asyncio.to_thread(prepare, brokers, [b"[%s]" % (b" " * MOST["kafka"]), b"1"])
    async with running(application(brokers, tmp_path / "data", "rows")) as app:
        await until(lambda: len(app.tables["last"].keys()) == 1)
        await until(lambda: has_done(app, 2))
    (letter,) = await asyncio.to_thread(read_all, broker, LETTERS)
    assert 10_000 < len(letter[1] or b"") < MOST["kafka"]


@pytest.mark.parametrize("kind", ["kafka"])
@pytest.mark.parametrize("fault", ["no key", "ahead"])
async def test_other_refusals_of_a_topic(brokers: Brokers, tmp_path: Path, fault: str) -> None:
    broker = await asyncio.to_thread(prepare, brokers, [b"1", b"2"])
    if fault == "no key":
        await asyncio.to_thread(bound, brokers, "out", "cleanup.policy", "compact")
    app = application(brokers, tmp_path / "data", "nothing")
    out = app.topic("out", key_type=str, value_type=str)

    @app.agent(app.topic("in", key_type=str, value_type=int), name="second")
    async def work(stream: streamapp.Stream) -> None:
        async for n in stream:
            ahead = time.time() + 7_200 if n == 2 and fault == "ahead" else None
            key = None if n == 2 and fault == "no key" else "k"
            await out.send(key=key, value="v", timestamp=ahead)

    async with running(app):
        await until(lambda: has_done(app, 2))
    (letter,) = await asyncio.to_thread(read_all, broker, LETTERS)
    assert letter[1] == b"2"
    assert len(await asyncio.to_thread(read_all, broker, OUT)) == 1


@pytest.mark.parametrize("guarantee", ["effectively_once", "exactly_once"])
async def test_small_records_that_are_too_many_for_one_batch_arrive(
    tmp_path: Path, guarantee: str
) -> None:
    brokers = KafkaBrokers(tmp_path)
    broker = await asyncio.to_thread(prepare, brokers, [b"1"])
    app = application(brokers, tmp_path / "data", "nothing", guarantee=guarantee)
    out = app.topic("out", key_type=str, value_type=bytes, value_serializer="raw")

    @app.agent(app.topic("in", key_type=str, value_type=int), name="second")
    async def work(stream: streamapp.Stream) -> None:
        async for _ in stream:
            await out.send_batch(key=["k"] * 100, value=[os.urandom(1_000) for _ in range(100)])

    async with running(app):
        await until(lambda: has_done(app, 1))
    found = await asyncio.to_thread(read_all, broker, OUT)
    assert len({value for _, value in found}) == 100
    assert await asyncio.to_thread(read_all, broker, LETTERS) == []
    brokers.close_all()


async def test_bound_that_is_lowered_meanwhile_is_learned(tmp_path: Path) -> None:
    brokers = KafkaBrokers(tmp_path)
    broker = await asyncio.to_thread(prepare, brokers, [b"10000"])
    async with running(application(brokers, tmp_path / "data", "outputs")) as app:
        await until(lambda: has_done(app, 1))
        await asyncio.to_thread(bound, brokers, "out", "max.message.bytes", 2_000)
        noise = OutRecord(IN, os.urandom(4_000).hex().encode(), b"1", 1_000)  # as a key
        await asyncio.to_thread(broker.append, [noise, OutRecord(IN, b"k", b"2", 1_000)])
        await until(lambda: has_done(app, 3))
    letters = await asyncio.to_thread(read_all, broker, LETTERS)
    assert [value for _, value in letters] == [b"1"]
    sent = await asyncio.to_thread(read_all, broker, OUT)
    assert [len(value or b"") for _, value in sent] == [10_000, 2]
    brokers.close_all()


async def test_records_that_retention_took_before_they_were_read_are_named_and_passed_over(
    brokers: Brokers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await asyncio.to_thread(prepare, brokers, [b"1", b"1"])
    for more in ([], [b"2"] * 3 + [b"3"] * 3):
        records = [OutRecord(IN, b"k", value, 1_000) for value in more]
        await asyncio.to_thread(broker.append, records)
        if more:
            await asyncio.to_thread(brokers.trim, broker, IN, 5)
        earliest = (await asyncio.to_thread(broker.offsets, [IN]))[IN].earliest
        end = 2 + len(more)
        async with running(application(brokers, tmp_path / "data", "outputs")) as app:
            await until(lambda app=app, end=end: has_done(app, end))
    if earliest > 2:  # sqlite keeps what is in one piece
        gone = f"in/0: records 2 to {earliest - 1} were deleted by retention before they were"
        assert gone in caplog.text
    sent = await asyncio.to_thread(read_all, broker, OUT)
    assert len(sent) == 2 + (end - max(earliest, 2))


def test_append_refuses_before_it_writes(kind: str, brokers: Brokers) -> None:
    with closing(brokers.open()) as broker:
        broker.create_topic(TopicSpec("out", 1))
        large = OutRecord(OUT, b"k", bytes(LIMITS.max_bytes or 0), 1_000)
        with pytest.raises(TooLargeError, match=r"too large for topic out \(key b'k'\)"):
            broker.append([OutRecord(OUT, b"k", b"beside it", 1_000), large])
        assert read_all(broker, OUT) == [], kind
