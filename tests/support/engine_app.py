"""Workers in the test's own process over ``memory://``, for tests of the engine under faults."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.transport.memory import MemoryBroker, memory_broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 20.0


class Bench:
    """A broker without a worker yet, and what a test wants to know of it."""

    def __init__(self) -> None:
        self.name = uuid4().hex
        self.broker: MemoryBroker = memory_broker(self.name)

    def app(self, **options: object) -> streamapp.App:
        given = {"commit_interval": "10ms", "topic_partitions": 1, "web_enabled": False, **options}
        url = f"memory://{self.name}"
        return streamapp.App("bench", broker=url, store="memory://", **given)

    def send(self, topic: str, *values: bytes, partition: int = 0) -> None:
        tp = TP(topic, partition)
        self.broker.append([OutRecord(tp, b"k", value, 0) for value in values])

    def log(self, topic: str, partition: int = 0) -> list[tuple[bytes | None, bytes | None]]:
        """Return key and value of all records of a partition."""
        reader = self.broker.reader()
        reader.assign({TP(topic, partition): 0})
        found: list[tuple[bytes | None, bytes | None]] = []
        while batches := reader.poll(0, 10_000):
            found += [pair for b in batches for pair in zip(b.keys, b.values, strict=True)]
        reader.close()
        return found

    def rows(self, table: str) -> dict[bytes | None, bytes | None]:
        """Return a table as its changelog says."""
        return dict(self.log(f"bench-{table}-changelog"))

    def position(self, topic: str, group: str = "bench") -> int:
        tp = TP(topic, 0)
        found = self.broker.committed(group, [tp])
        return found[tp].offset if tp in found else 0


def counting(bench: Bench) -> streamapp.App:
    """Return an application that counts the records of ``in`` in a table."""
    app = bench.app()
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("in", value_type=int))
    async def count(stream: Any) -> None:
        async for _ in stream:
            counts["all"] += 1

    return app


@asynccontextmanager
async def running(app: streamapp.App) -> AsyncIterator[streamapp.App]:
    """Run a worker; it is ready at entry."""
    app.finalize()
    await app.start()
    try:
        await until(app.engine.is_ready.is_set)
        yield app
    finally:
        await asyncio.wait_for(app.stop(), DEADLINE_S)


async def until(is_good: Callable[[], bool]) -> None:
    """Wait for a condition, under a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_good():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.005)  # between two looks
