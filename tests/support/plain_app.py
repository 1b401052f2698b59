"""A plain Faust program, as a user would write it: ``python plain_app.py worker`` and friends.

It counts words into a table; what it counts is asserted from its topics.
"""

from __future__ import annotations

import os
from pathlib import Path

import faust

BROKER = os.environ["PLAIN_BROKER"]
DATADIR = Path(os.environ["PLAIN_DATADIR"])

app = faust.App(
    "plain",
    broker=BROKER,
    store="rocksdb://",
    datadir=DATADIR,
    topic_partitions=4,
    broker_commit_interval=0.2,
    web_enabled=False,
    stream_wait_empty=False,
)
words = app.topic("words", key_type=str, value_type=int)
counts = app.Table("counts", default=int, partitions=4)


@app.agent(words)
async def count(stream: faust.Stream[int]) -> None:
    async for word, number in stream.items():
        counts[word] += number


if __name__ == "__main__":
    app.main()
