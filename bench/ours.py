"""The programs that are measured, as a user writes them: ``faust -A ours worker``.

The measuring process says in BENCH_PLAN which one to run. An agent notes the time of its first
event and of its last one; everything else is seen from outside. All settings are the defaults.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from workload import PARTITIONS, cpu_s

import streamapp

plan = json.loads(os.environ["BENCH_PLAN"])
folder = Path(plan["folder"])
app = streamapp.App(
    plan["app"],
    broker=f"sqlite://{folder}/bus",
    datadir=folder / plan["app"],
    topic_partitions=PARTITIONS,
    web_enabled=False,
)


class Event(streamapp.Record):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


class Stopwatch:
    """Reports when it is stopped; times by the clock that all processes of a machine share."""

    def start(self) -> None:
        """Begin."""
        self._report = {"began_at": time.monotonic(), "cpu_began": cpu_s()}

    def stop(self) -> None:
        """End."""
        self._report |= {"ended_at": time.monotonic(), "cpu_ended": cpu_s()}

    def report(self, **results: int) -> None:
        """Write both down, and what came out."""
        path = Path(plan["report"])
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self._report | results))
        part.rename(path)


watch = Stopwatch()
last = plan["events"]
events = app.topic(plan["topic"], key_type=str, value_type=Event)


def stateless() -> None:
    """Read every event."""

    @app.agent(events)
    async def read(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = total = 0
        async for event in stream:
            total += event.amount
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == last:
                watch.stop()
                watch.report()
                watch.report(total=total)


def table() -> None:
    """Sum amounts by user."""
    sums = app.Table("sums", default=int)

    @app.agent(events)
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            sums[event.user] += event.amount
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == last:
                watch.stop()
                watch.report()


def batches() -> None:
    """Sum amounts by user, by columns."""
    sums = app.Table("sums", default=int)

    @app.agent(events)
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for batch in stream.batches():
            if not seen:
                watch.start()
            sums.add(batch.user, batch.amount)
            seen += len(batch)
            if seen == last:
                watch.stop()
                watch.report()


class Sums(streamapp.Record):
    """A row of several fields."""

    n: int = 0
    total: int = 0
    least: int | None = None
    greatest: int | None = None


def rows() -> None:
    """Keep four figures by user."""
    sums = app.Table("sums", default=Sums, value_type=Sums)

    @app.agent(events)
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            row = sums[event.user]
            row.n += 1
            row.total += event.amount
            row.least = event.amount if row.least is None else min(row.least, event.amount)
            row.greatest = event.amount if row.greatest is None else max(row.greatest, event.amount)
            sums[event.user] = row
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == last:
                watch.stop()
                watch.report()


def batch_rows() -> None:
    """Keep four figures by user, by columns."""
    sums = app.Table("sums", default=Sums, value_type=Sums)
    grown = {
        "n": streamapp.count(),
        "total": streamapp.sum("amount"),
        "least": streamapp.min("amount"),
        "greatest": streamapp.max("amount"),
    }

    @app.agent(events)
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for batch in stream.batches():
            if not seen:
                watch.start()
            sums.aggregate(batch, "user", **grown)
            seen += len(batch)
            if seen == last:
                watch.stop()
                watch.report()


def output() -> None:
    """Send an output for every event."""
    out = app.topic(f"{plan['app']}-out", key_type=str, value_type=int)

    @app.agent(events, sink=[out])
    async def forward(stream: Any) -> Any:  # noqa: ANN401 - Faust's stream
        seen = 0
        async for event in stream:
            seen += 1
            if seen == 1:
                watch.start()
            elif seen == last:
                watch.stop()
                watch.report()
            yield event.id


def recovery() -> None:
    """Only wait until the table is there."""
    sums = app.Table("sums", default=int)

    async def follow() -> None:
        engine = app.engine
        while getattr(engine, "keeper", None) is None or engine.keeper.progress is None:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.001)
        watch.start()
        await engine.is_ready.wait()
        watch.stop()
        restored, _ = engine.keeper.progress.records
        watch.report(restored=restored, total=sum(sums.values()))

    @app.agent(events)
    async def add(stream: Any) -> None:  # noqa: ANN401 - Faust's stream
        task = asyncio.create_task(follow())
        async for event in stream:
            sums[event.user] += event.amount
        await task


{
    "stateless": stateless,
    "table": table,
    "batches": batches,
    "rows": rows,
    "batch_rows": batch_rows,
    "output": output,
    "recovery": recovery,
}[plan["scenario"]]()
