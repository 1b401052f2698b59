"""Stock faust-streaming: ``python -m streamapp.bench.keyed.faust``, its table in RocksDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faust

from streamapp.bench.keyed.plan import Stopwatch, told

plan = told()
watch = Stopwatch(plan)
app = faust.App(
    plan.app,
    broker=plan.broker.partition("?")[0],
    store="rocksdb://",
    datadir=Path(plan.folder) / plan.app,
    topic_partitions=plan.partitions,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
events = app.topic(plan.topic, key_type=str)


def _totals() -> Any:
    return app.Table("totals", default=int, partitions=plan.partitions)


def stateless() -> None:
    """Add up all amounts."""

    @app.agent(events)
    async def read(stream: Any) -> None:
        async for event in stream:
            watch.total += event["amount"]
            watch.count()


def forward() -> None:
    """Send the id of each event."""

    @app.agent(events, sink=[app.topic(plan.out, key_type=str, value_type=int)])
    async def send(stream: Any) -> Any:
        async for event in stream:
            watch.count()
            yield event["id"]


def table() -> None:
    """Sum amounts by user."""
    totals = _totals()

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for event in stream:
            totals[event["user"]] += event["amount"]
            watch.count()


def output() -> None:
    """Sum amounts by user, and send each new total."""
    totals = _totals()

    @app.agent(events, sink=[app.topic(plan.out, key_type=str)])
    async def add(stream: Any) -> Any:
        async for event in stream:
            total = totals[event["user"]] = totals[event["user"]] + event["amount"]
            yield {"id": event["id"], "total": total}


def recovery() -> None:
    """Tell when the table is back, by Faust's own signals."""
    output()

    @app.on_partitions_assigned.connect
    async def begin(*_: object, **__: object) -> None:
        watch.start()

    @app.on_rebalance_complete.connect
    async def end(*_: object, **__: object) -> None:
        watch.stop()


_PROGRAMS = {
    "stateless": stateless,
    "forward": forward,
    "table": table,
    "output": output,
    "recovery": recovery,
}

if __name__ == "__main__":
    _PROGRAMS[plan.mode]()
    # At its default level Faust makes a record of each line that it does not log.
    faust.Worker(app, loglevel="info").execute_from_commandline()
