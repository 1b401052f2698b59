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


class Sums(streamapp.Record):
    """A row of several fields."""

    n: int = 0
    total: int = 0
    least: int | None = None
    greatest: int | None = None


events = app.topic(plan.topic, key_type=str, value_type=Event)


def stateless() -> None:
    """Add up all amounts."""

    @app.agent(events)
    async def read(stream: Any) -> None:
        async for event in stream:
            watch.total += event.amount
            watch.count()


def batches_stateless() -> None:
    """Add up all amounts, by columns."""

    @app.agent(events)
    async def read(stream: Any) -> None:
        async for batch in stream.batches():
            watch.total += int(batch.amount.sum())
            watch.count(len(batch))


def forward() -> None:
    """Send the id of each event."""

    @app.agent(events, sink=[app.topic(plan.out, key_type=str, value_type=int)])
    async def send(stream: Any) -> Any:
        async for event in stream:
            watch.count()
            yield event.id


def table() -> None:
    """Sum amounts by user."""
    totals = app.Table("totals", default=int)

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for event in stream:
            totals[event.user] += event.amount
            watch.count()


def batches() -> None:
    """Sum amounts by user, by columns."""
    totals = app.Table("totals", default=int)

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for batch in stream.batches():
            totals.add(batch.user, batch.amount)
            watch.count(len(batch))


def rows() -> None:
    """Keep four figures by user."""
    totals = app.Table("totals", default=Sums, value_type=Sums)

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for event in stream:
            row = totals[event.user]
            row.n += 1
            row.total += event.amount
            row.least = event.amount if row.least is None else min(row.least, event.amount)
            row.greatest = event.amount if row.greatest is None else max(row.greatest, event.amount)
            totals[event.user] = row
            watch.count()


def batch_rows() -> None:
    """Keep four figures by user, by columns."""
    totals = app.Table("totals", default=Sums, value_type=Sums)
    grown = {
        "n": streamapp.count(),
        "total": streamapp.sum("amount"),
        "least": streamapp.min("amount"),
        "greatest": streamapp.max("amount"),
    }

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for batch in stream.batches():
            totals.aggregate(batch, "user", **grown)
            watch.count(len(batch))


def output() -> None:
    """Sum amounts by user, and send each new total."""
    totals = app.Table("totals", default=int)

    @app.agent(events, sink=[app.topic(plan.out, key_type=str, value_type=Total)])
    async def add(stream: Any) -> Any:
        follower = asyncio.create_task(follow()) if plan.mode == "recovery" else None
        async for event in stream:
            total = totals[event.user] = totals[event.user] + event.amount
            yield Total(event.id, total)
        if follower is not None:
            await follower


async def follow() -> None:
    """Tell when the table is back."""
    engine = app.engine
    while getattr(engine, "keeper", None) is None or engine.keeper.progress is None:  # noqa: ASYNC110 - no event says it
        await asyncio.sleep(0.001)
    watch.start()
    await engine.is_ready.wait()
    watch.stop()


_PROGRAMS = {
    ("ours", "stateless"): stateless,
    ("ours", "forward"): forward,
    ("ours", "table"): table,
    ("ours", "rows"): rows,
    ("ours", "output"): output,
    ("ours", "recovery"): output,
    ("batches", "stateless"): batches_stateless,
    ("batches", "table"): batches,
    ("batches", "rows"): batch_rows,
}
_PROGRAMS[plan.engine, plan.mode]()
