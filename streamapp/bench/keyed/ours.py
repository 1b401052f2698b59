"""Ours, event by event or by batches: ``faust -A streamapp.bench.keyed.ours worker``.

All settings are the defaults.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import streamapp
from streamapp.bench.keyed.plan import Stopwatch, told

plan = told()
watch = Stopwatch(plan)
app = streamapp.App(
    plan.app,
    broker=plan.broker,
    datadir=Path(plan.folder) / plan.app,
    topic_partitions=plan.partitions,
    web_enabled=False,
)


class Event(streamapp.Record):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


class Total(streamapp.Record):
    """What it sends."""

    id: int
    total: int


events = app.topic(plan.topic, key_type=str, value_type=Event)
out = app.topic(plan.out, key_type=str, value_type=Total)
totals = app.Table("totals", default=int)


def table() -> None:
    """Sum amounts by user."""

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for event in stream:
            totals[event.user] += event.amount
            watch.count()


def batches() -> None:
    """Sum amounts by user, by columns."""

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for batch in stream.batches():
            totals.add(batch.user, batch.amount)
            watch.count(len(batch))


def output() -> None:
    """Sum amounts by user, and send each new total."""

    @app.agent(events, sink=[out])
    async def add(stream: Any) -> Any:
        async for event in stream:
            total = totals[event.user] = totals[event.user] + event.amount
            yield Total(event.id, total)


def recovery() -> None:
    """Tell when the table is back; then do what ``output`` does."""

    async def follow() -> None:
        engine = app.engine
        while getattr(engine, "keeper", None) is None or engine.keeper.progress is None:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.001)
        watch.start()
        await engine.is_ready.wait()
        watch.stop()

    @app.agent(events, sink=[out])
    async def add(stream: Any) -> Any:
        task = asyncio.create_task(follow())
        async for event in stream:
            total = totals[event.user] = totals[event.user] + event.amount
            yield Total(event.id, total)
        await task


if plan.engine == "batches":
    batches()
else:
    {"table": table, "output": output, "recovery": recovery}[plan.mode]()
