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
totals = app.Table("totals", default=int, partitions=plan.partitions)
events = app.topic(plan.topic, key_type=str)


def table() -> None:
    """Sum amounts by user."""

    @app.agent(events)
    async def add(stream: Any) -> None:
        async for event in stream:
            totals[event["user"]] += event["amount"]
            watch.count()


def output() -> None:
    """Sum amounts by user, and send each new total."""

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


if __name__ == "__main__":
    {"table": table, "output": output, "recovery": recovery}[plan.mode]()
    # At its default level Faust makes a record of each line that it does not log.
    faust.Worker(app, loglevel="info").execute_from_commandline()
