"""The intake: records reach the loop in order, whoever reads them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing, contextmanager
from threading import Event
from typing import TYPE_CHECKING

import pytest
from support.brokers import DEADLINE_S, numbered

from streamapp.core.batch import TP, RecordBatch
from streamapp.engine.intake import Intake
from streamapp.errors import BrokerError
from streamapp.transport.broker import Assigned, MemberEvent, TopicSpec
from streamapp.transport.memory import MemoryBroker
from streamapp.transport.sqlite import SqliteBroker, SqliteOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streamapp.transport.broker import Broker, Member
    from streamapp.transport.sqlite.member import SqliteMember

IN = [TP("in", p) for p in range(2)]


@pytest.fixture(params=["sqlite", "memory"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    is_memory = request.param == "memory"
    broker = MemoryBroker() if is_memory else SqliteBroker(tmp_path, SqliteOptions(sync="normal"))
    broker.create_topic(TopicSpec("in", 2))
    yield broker
    broker.close()


class Engine:
    """What is behind an intake: it seeks what is assigned, and notes what comes."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.offsets: dict[TP, list[int]] = {tp: [] for tp in IN}
        self.errors: list[Exception] = []

    def deliver(self, events: Sequence[MemberEvent]) -> None:
        for event in events:
            if isinstance(event, RecordBatch):
                self.offsets[event.tp] += event.offsets
            elif isinstance(event, Assigned):
                self.member.seek({tp: len(self.offsets[tp]) for tp in event.tps})

    @property
    def count(self) -> int:
        return sum(map(len, self.offsets.values()))


@contextmanager
def running(broker: Broker, member: Member | None = None) -> Iterator[tuple[Engine, Intake]]:
    engine = Engine(member or broker.join("g", ["in"]))
    intake = Intake(engine.member, 5_000, engine.deliver, engine.errors.append)
    try:
        yield engine, intake
    finally:
        intake.stop()
        engine.member.leave()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def test_order_holds_over_all_changes_of_who_reads(broker: Broker) -> None:
    """Much is the thread's and little the loop's; appends go on meanwhile."""
    sizes = [1, 2_500, 1, 1, 999, 1_000, 1, 3, 1_500, 2, 1] * 4
    with running(broker) as (engine, _):
        for number, size in enumerate(sizes):
            await asyncio.to_thread(broker.append, numbered(IN[number % 2], size))
            if number % 5 == 0:
                await until(lambda number=number: engine.count == sum(sizes[: number + 1]))
        await until(lambda: engine.count == sum(sizes))
    ends = [sum(sizes[::2]), sum(sizes[1::2])]
    assert engine.offsets == {tp: [*range(end)] for tp, end in zip(IN, ends, strict=True)}
    assert engine.errors == []


async def test_nothing_comes_after_hush_until_listen(broker: Broker) -> None:
    with running(broker) as (engine, intake):
        broker.append(numbered(IN[0], 3))
        await until(lambda: engine.count == 3)
        await intake.hush()
        broker.append(numbered(IN[0], 2))
        for _ in range(3):
            await intake.hush()
        assert engine.count == 3
        intake.listen()
        await until(lambda: engine.count == 5)


async def test_loop_that_cannot_read_leaves_it_to_the_thread(tmp_path: Path) -> None:
    """The thread says why, once for each of its tries, and all goes on when it can be read."""
    broker = SqliteBroker(tmp_path)
    broker.create_topic(TopicSpec("in", 2))
    file = sqlite3.connect(tmp_path / "bus.db", isolation_level=None)
    with closing(broker), closing(file), running(broker) as (engine, intake):
        broker.append(numbered(IN[0], 1))
        await until(lambda: engine.count == 1)
        await intake.hush()
        broker.append(numbered(IN[0], 2))
        file.execute("UPDATE batch SET crc = crc + 1 WHERE last = 2")
        intake.listen()
        await until(lambda: bool(engine.errors))
        assert engine.count == 1
        file.execute("UPDATE batch SET crc = crc - 1 WHERE last = 2")
        await until(lambda: engine.count == 3)
    assert {type(error) for error in engine.errors} == {BrokerError}


class Gated:
    """A member that lets the thread read when it may, and tells when that has handed over."""

    def __init__(self, member: SqliteMember) -> None:
        self._member = member
        self.id = member.id
        self.seek, self.pause, self.resume = member.seek, member.pause, member.resume
        self.commit, self.release, self.leave = member.commit, member.release, member.leave
        self.hand_over, self.poll_nowait, self.wake = (
            member.hand_over, member.poll_nowait, member.wake,
        )  # fmt: skip
        self.gate, self.has_handed_over = Event(), Event()
        self._has_read = False

    def poll(self, timeout_s: float, max_records: int) -> list[MemberEvent]:
        if self._has_read:
            self.has_handed_over.set()
        if max_records:
            self.gate.wait(DEADLINE_S)
        events = self._member.poll(timeout_s, max_records)
        self._has_read = any(isinstance(event, RecordBatch) for event in events)
        return events


async def test_loop_reads_nothing_before_it_has_handled_what_the_thread_has_read(
    tmp_path: Path,
) -> None:
    """The loop is busy while the thread reads, and wants to look in the middle of it."""
    broker = SqliteBroker(tmp_path, SqliteOptions(sync="normal"))
    broker.create_topic(TopicSpec("in", 2))
    member = Gated(broker.join("g", ["in"]))
    member.gate.set()
    with closing(broker), running(broker, member) as (engine, intake):
        broker.append(numbered(IN[0], 1))
        await until(lambda: engine.count == 1)
        member.gate.clear()
        broker.append(numbered(IN[0], 1_000))  # so many that the next read is the thread's
        await until(lambda: engine.count == 1_001)
        broker.append(numbered(IN[0], 2))
        member.has_handed_over.clear()
        intake.listen()
        member.gate.set()
        assert member.has_handed_over.wait(DEADLINE_S)
        broker.append(numbered(IN[0], 1))
        await until(lambda: engine.count == 1_004)
    assert engine.offsets[IN[0]] == [*range(1_004)]
