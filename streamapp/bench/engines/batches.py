"""Ours, a batch agent: a worker in this process, its broker and store in memory.

Only what takes nothing but columns: the filter. Its agent, commits and topics are those of a worker
over a broker; pipelines (``ours``) are driven without one.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import streamapp
from streamapp.bench.engines.ours import Big, Order
from streamapp.bench.program import Program
from streamapp.bench.scenarios import THRESHOLD, Rows, keyed
from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker

_URL = "memory://bench-batches"


def make(scenario: str, events: list[bytes]) -> Program:
    """Return an application with one batch agent over a preloaded topic."""
    if scenario != "filter":
        raise KeyError(scenario)
    broker = open_broker(_URL, Path())
    broker.create_topic(TopicSpec("events", 1))
    broker.append([OutRecord(TP("events", 0), b"k", event, 0) for event in events])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = streamapp.App(
        "bench", broker=_URL, store="memory://", topic_partitions=1, web_enabled=False, loop=loop
    )
    out = app.topic("results", key_type=str, value_type=Big)

    @app.agent(app.topic("events", value_type=Order))
    async def work(stream: Any) -> None:
        async for batch in stream.batches():
            big = batch.where(batch.amount > THRESHOLD)
            rows = map(Big, big.id.tolist(), big.user, (big.amount * 1.5).tolist())
            await out.send_batch(big, key="user", value=np.fromiter(rows, object, len(big)))

    async def run() -> None:
        await app.start()
        end = TP("events", 0)
        while (at := broker.committed("bench", [end]).get(end)) is None or at.offset < len(events):  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.005)

    logging.disable()
    return Program(lambda: loop.run_until_complete(run()), lambda: _sent(broker))


def _sent(broker: Any) -> Rows:
    reader = broker.reader()
    reader.assign({TP("results", 0): 0})
    end = broker.offsets([TP("results", 0)])[TP("results", 0)].end
    found: list[Big] = []
    while len(found) < end:
        for batch in reader.poll(1.0, 10_000):
            found += [msgspec.json.decode(value or b"", type=Big) for value in batch.values]
    reader.close()
    return keyed((big.id, (big.user, big.amount)) for big in found)
