"""A batch agent for tests that kill it: ``python -m support.batch_app FOLDER``."""

from __future__ import annotations

import sys
from typing import Any

import faust

import streamapp

PARTITIONS = 2


class Order(streamapp.Record):
    id: int
    user: str
    amount: int


class Sums(streamapp.Record):
    n: int = 0
    total: int = 0
    greatest: int | None = None


def build(folder: str) -> streamapp.App:
    app = streamapp.App(
        "batched",
        broker=f"sqlite://{folder}/bus",
        datadir=f"{folder}/data",
        topic_partitions=PARTITIONS,
        commit_interval="5ms",
        store_interval="50ms",
        web_enabled=False,
    )
    spent = app.Table("spent", key_type=str, value_type=int, default=int)
    sums = app.Table("sums", key_type=str, value_type=Sums, default=Sums)
    out = app.topic("out", key_type=str, value_type=int)

    @app.agent(app.topic("in", key_type=str, value_type=Order), on_error="dead_letter")
    async def add_up(stream: Any) -> None:
        async for batch in stream.batches(max_rows=300):
            spent.add(batch.user, batch.amount)
            sums.aggregate(
                batch,
                "user",
                n=streamapp.count(),
                total=streamapp.sum("amount"),
                greatest=streamapp.max("amount"),
            )
            await out.send_batch(batch, value="id")
            if (batch.amount < 0).any():
                msg = "a negative amount"
                raise ValueError(msg)

    return app


if __name__ == "__main__":
    faust.Worker(
        build(sys.argv[1]), loglevel="INFO", redirect_stdouts=False
    ).execute_from_commandline()
