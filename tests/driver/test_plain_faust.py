"""A plain ``faust.App`` on our brokers: nothing of streamapp is imported by these programs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import faust
import pytest
from support.brokers import read_all, record

from streamapp.core.batch import TP
from streamapp.errors import BrokerFullError, UnknownTopicError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.memory import MemoryBroker, memory_broker
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from faust.transport.producer import Producer

    from streamapp.transport.broker import Broker

PROGRAM = Path(__file__).parents[1] / "support" / "plain_app.py"
DEADLINE_S = 15.0
WORDS = [TP("words", p) for p in range(4)]
CHANGELOG = [TP("plain-counts-changelog", p) for p in range(4)]
KEYS = [b"word%d" % i for i in range(20)]


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def wait_until(condition: Callable[[], bool]) -> None:
    asyncio.run(eventually(condition))


# --- in this process -----------------------------------------------------------------------------


@pytest.fixture(params=["memory", "sqlite"])
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid4().hex}" if request.param == "memory" else f"sqlite://{tmp_path}/bus"


def new_app(url: str, folder: Path, **settings: object) -> faust.App:
    return faust.App(
        "inside",
        **{
            "broker": url,
            "datadir": folder,
            "store": "memory://",
            "topic_partitions": 4,
            "broker_commit_interval": 0.2,
            "web_enabled": False,
            "stream_wait_empty": False,
            **settings,
        },
    )


@asynccontextmanager
async def producing(url: str, folder: Path, **settings: object) -> AsyncIterator[Producer]:
    app = new_app(url, folder, **settings)
    app.producer_only = True
    async with app:
        yield app.producer


async def test_agent_table_and_leader_work_in_process(broker_url: str, tmp_path: Path) -> None:
    app = new_app(broker_url, tmp_path / "data")
    (tmp_path / "data").mkdir()
    topic = app.topic("in", key_type=str, value_type=int)
    table = app.Table("sums", default=int, partitions=4)
    seen: list[tuple[str, int, float, dict[str, bytes]]] = []

    @app.agent(topic)
    async def add(stream: faust.Stream[int]) -> None:
        async for event in stream.events():
            table[event.key] += event.value
            seen.append((event.key, event.value, event.message.timestamp, event.headers))

    async with app:
        for i in range(30):
            await topic.send(
                key=f"k{i % 3}", value=i, timestamp=1_700_000_000.125, headers={"n": b"%d" % i}
            )
        await eventually(lambda: len(seen) == 30)
        assert {timestamp for _, _, timestamp, _ in seen} == {1_700_000_000.125}
        assert {headers["n"] for *_, headers in seen} == {b"%d" % i for i in range(30)}
        assert app.is_leader()
        broker = app.transport.broker
        await eventually(lambda: committed(broker, "inside", "in") == 30)
        changes = [TP("inside-sums-changelog", p) for p in range(4)]
        latest = {key: value for tp in changes for key, value in keys_and_values(broker, tp)}
    expected = {b'"k%d"' % k: b"%d" % sum(range(k, 30, 3)) for k in range(3)}
    assert latest == expected


async def test_state_is_recovered_by_a_new_app(broker_url: str, tmp_path: Path) -> None:
    for total in (10, 20):
        folder = tmp_path / f"data{total}"
        folder.mkdir()
        app = new_app(broker_url, folder)
        topic = app.topic("in", key_type=str, value_type=int)
        table = app.Table("sums", default=int, partitions=4)
        sums: list[int] = []

        @app.agent(topic)
        async def add(
            stream: faust.Stream[int],
            table: faust.Table[str, int] = table,
            sums: list[int] = sums,
        ) -> None:
            async for key, value in stream.items():
                table[key] += value
                sums.append(table[key])

        async with app:
            for _ in range(10):
                await topic.send(key="k", value=1)
            await eventually(lambda sums=sums: len(sums) == 10)
            await eventually(
                lambda app=app, total=total: (
                    committed(app.transport.broker, "inside", "in") == total
                )
            )
        assert sums[-1] == total


def committed(broker: Broker, group: str, topic: str) -> int:
    tps = [TP(topic, p) for p in range(4)]
    return sum(position.offset for position in broker.committed(group, tps).values())


def keys_and_values(broker: Broker, tp: TP) -> list[tuple[bytes | None, bytes | None]]:
    reader = broker.reader()
    end = broker.offsets([tp])[tp].end
    rows: list[tuple[bytes | None, bytes | None]] = []
    reader.assign({tp: 0})
    while len(rows) < end:
        for batch in reader.poll(0.1, 1_000):
            rows += zip(batch.keys, batch.values, strict=True)
    reader.close()
    return rows


# --- the producer alone --------------------------------------------------------------------------


async def test_send_resolves_with_the_real_offset(broker_url: str, tmp_path: Path) -> None:
    async with producing(broker_url, tmp_path) as producer:
        for offset in range(3):
            sent = await producer.send_and_wait("t", b"key", b"v", None, 12.5, {"h": b"x"})
            assert sent.topic_partition == ("t", partition_for_key(b"key", 4))
            assert (sent.offset, sent.timestamp) == (offset, 12.5)
        assert producer.key_partition("t", b"key") == sent.topic_partition
        assert producer.topic_partitions("t") == 4
        assert producer.supports_headers()


async def test_partition_that_is_named_is_taken(broker_url: str, tmp_path: Path) -> None:
    async with producing(broker_url, tmp_path) as producer:
        sent = [await producer.send_and_wait("t", b"key", b"v", p, None, None) for p in range(4)]
        assert [metadata.partition for metadata in sent] == [0, 1, 2, 3]


async def test_flush_waits_for_all_that_was_sent(broker_url: str, tmp_path: Path) -> None:
    async with producing(broker_url, tmp_path) as producer:
        futures = [await producer.send("t", b"k", b"%d" % i, 0, None, None) for i in range(500)]
        await producer.flush()
        assert [future.result().offset for future in futures] == list(range(500))


async def test_flush_ends_while_others_go_on_sending(tmp_path: Path) -> None:
    async with producing(f"memory://{uuid4().hex}", tmp_path) as producer:
        is_flushed = asyncio.Event()

        async def keep_sending() -> None:
            while not is_flushed.is_set():
                await producer.send("t", b"k", b"v", 0, None, None)
                await asyncio.sleep(0)

        sender = asyncio.create_task(keep_sending())
        await asyncio.wait_for(producer.flush(), DEADLINE_S)
        is_flushed.set()
        await sender


async def test_failed_send_reaches_its_sender_and_the_next_flush(tmp_path: Path) -> None:
    name = uuid4().hex
    async with producing(f"memory://{name}", tmp_path) as producer:
        await producer.send_and_wait("t", b"k", b"v", 0, None, None)
        memory_broker(name).fail_next("append", BrokerFullError("no room"))
        future = await producer.send("t", b"k", b"lost", 0, None, None)
        with pytest.raises(faust.exceptions.ProducerSendError, match="no room"):
            await producer.flush()
        with pytest.raises(BrokerFullError):
            await future
        await producer.send("t", b"k", b"after", 0, None, None)
        await producer.flush()
    assert read_all(memory_broker(name), TP("t", 0)) == [(0, b"v"), (1, b"after")]


async def test_absent_topic_is_refused_where_declaring_is_off(tmp_path: Path) -> None:
    url = f"memory://{uuid4().hex}"
    async with producing(url, tmp_path, topic_allow_declare=False) as producer:
        with pytest.raises(UnknownTopicError):
            await producer.send("absent", b"k", b"v", None, None, None)


async def test_created_topic_has_fausts_settings_in_our_units(tmp_path: Path) -> None:
    name = uuid4().hex
    async with producing(f"memory://{name}", tmp_path) as producer:
        await producer.create_topic("c", 2, 1, compacting=True)
        await producer.create_topic("d", 2, 1, retention=3600.0, deleting=True)
        await producer.create_topic("cd", 2, 1, compacting=True, deleting=True, retention=1.5)
        await producer.create_topic("k", 2, 1, config={"retention.ms": -1})
        await producer.create_topic("c", 8, 1)
    specs = {topic: info.spec for topic, info in memory_broker(name).topics().items()}
    gigabyte = 1 << 30
    assert specs == {
        "c": TopicSpec("c", 2, frozenset({"compact"}), None, None),
        "d": TopicSpec("d", 2, frozenset({"delete"}), 3_600_000, gigabyte),
        "cd": TopicSpec("cd", 2, frozenset({"compact", "delete"}), 1_500, gigabyte),
        "k": TopicSpec("k", 2, frozenset({"delete"}), None, gigabyte),
    }


def test_exactly_once_is_refused_by_name(tmp_path: Path) -> None:
    app = new_app("memory://eo", tmp_path, processing_guarantee="exactly_once")
    with pytest.raises(Exception, match="exactly_once"):
        _ = app.transport.broker


async def test_broker_that_fails_crashes_the_worker(tmp_path: Path) -> None:
    name = uuid4().hex
    app = new_app(f"memory://{name}", tmp_path)

    @app.agent(app.topic("in"))
    async def ignore(stream: faust.Stream[int]) -> None:
        async for _ in stream:
            pass

    memory: MemoryBroker = memory_broker(name)
    await app.start()
    try:
        await eventually(lambda: bool(memory.groups()))
        memory.fail_next("poll", BrokerFullError("gone"))
        await eventually(lambda: app.crashed)
    finally:
        await app.stop()


# --- as processes --------------------------------------------------------------------------------


class Bus:
    """A broker folder, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite://{folder}/bus"
        self.broker = open_broker(self.url, folder)
        self.broker.create_topic(TopicSpec("words", 4))

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "PLAIN_BROKER": self.url, "PLAIN_DATADIR": str(folder)}
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments], env=environment, stdout=log, stderr=log
            )

    @contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(name, "worker", "-l", "info", "--without-web")
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def write(self, count: int) -> None:
        self.broker.append(
            [
                record(WORDS[partition_for_key(KEYS[i % 20], 4)], KEYS[i % 20], b"1")
                for i in range(count)
            ]
        )

    def read(self) -> int:
        return sum(p.offset for p in self.broker.committed("plain", WORDS).values())

    def table(self) -> dict[bytes, int]:
        return {
            json.loads(key or b"null").encode(): json.loads(value or b"0")
            for tp in CHANGELOG
            for key, value in keys_and_values(self.broker, tp)
        }

    def owners(self) -> list[int]:
        """How many partitions of the source each member owns."""
        groups = self.broker.groups()
        members = groups["plain"].members if "plain" in groups else ()
        return [len([tp for tp in m.tps if tp.topic == "words"]) for m in members if m.is_alive]


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(tmp_path)
    yield bus
    bus.broker.close()


def test_killed_worker_goes_on_and_wiped_state_is_recovered(bus: Bus) -> None:
    bus.write(400)
    with bus.worker("one"):
        wait_until(lambda: bus.read() == 400)
        assert bus.table() == dict.fromkeys(KEYS, 20)
    bus.write(400)
    with bus.worker("one"):
        wait_until(lambda: bus.read() == 800)
    shutil.rmtree(bus.folder / "one")
    bus.write(20)
    with bus.worker("one"):
        wait_until(lambda: bus.read() == 820)
        table = bus.table()
    assert table == dict.fromkeys(KEYS, 41)


def test_two_workers_share_and_one_takes_over(bus: Bus) -> None:
    with bus.worker("one") as one, bus.worker("two"):
        wait_until(lambda: sorted(bus.owners()) == [2, 2])
        bus.write(200)
        wait_until(lambda: bus.read() == 200)
        one.kill()
        one.wait()
        wait_until(lambda: 4 in bus.owners())
        bus.write(200)
        wait_until(lambda: bus.read() == 400)
        table = bus.table()
    assert table.keys() == set(KEYS)
    assert all(count >= 20 for count in table.values())


def test_command_line_sends_to_a_running_worker(bus: Bus) -> None:
    with bus.worker("one"):
        sender = bus.start("cli", "send", "words", "5", "--key", "typed")
        assert sender.wait(DEADLINE_S) == 0
        wait_until(lambda: bus.read() == 1)
        wait_until(lambda: bus.table() == {b"typed": 5})
