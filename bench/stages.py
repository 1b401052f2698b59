"""Where the CPU time of ``totals[user] += amount`` goes: each stage alone, on the same events.

The functions are those that a worker calls, in one thread, with nothing else running; the times are
CPU times. What a worker needs beyond their sum (threads that wait for each other, wake-ups, the
collector) is not a stage: ``describe`` names it as the rest.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workload import PARTITIONS, Workload, preload

import streamapp
from streamapp.core.batch import TP
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.feed import FeedPlan
from streamapp.engine.gate import Gate
from streamapp.engine.outbox import Outbox
from streamapp.engine.policy import ErrorPolicy
from streamapp.engine.rejects import FeedStats, Rejects
from streamapp.state.changelog import change_records
from streamapp.state.rocksdb import RocksStore
from streamapp.state.shard import CacheBudget, Shard
from streamapp.state.store import shard_prefix
from streamapp.transport.broker import TopicSpec
from streamapp.transport.connect import open_broker
from streamapp.transport.sqlite.log import draft

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord, RecordBatch
    from streamapp.transport.broker import Broker

_FETCH = 5_000
#: Events between two commits: 250 ms at 200,000 a second.
_COMMIT_EVENTS = 50_000
#: Events between two writes of the store: 2 s at that rate.
_STORE_EVENTS = 400_000
_REPEATS = 3
_CHANGELOG = "stages-changelog"

_T = TypeVar("_T")
_Agent = Callable[[Any, int], Awaitable[None]]


class Event(streamapp.Record):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


def profile(events: int) -> dict[str, float]:
    """Return the CPU microseconds per event of each stage, the best of three."""
    workload = Workload("events", events)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="bench-stages-")))
        broker = open_broker(f"sqlite://{folder}/bus", folder)
        opened.callback(broker.close)
        store = RocksStore.open(folder / "store")
        opened.callback(store.close)
        preload(broker, workload)
        broker.create_topic(TopicSpec(_CHANGELOG, PARTITIONS))
        app = streamapp.App("stages", broker=f"sqlite://{folder}/bus", datadir=folder)
        program = _Program(app, store)
        rounds = [_round(program, broker, workload) for _ in range(_REPEATS)]
    return {stage: round(min(each[stage] for each in rounds) * 1e6, 3) for stage in rounds[0]}


def describe(found: dict[str, float], whole: float | None) -> str:
    """Return the stages as lines; ``whole`` is what a worker needs for an event."""
    lines = [f"  {stage:34}{us:8.3f}" for stage, us in found.items()]
    total = sum(found.values())
    if whole is not None:
        rest = "the rest: threads, wake-ups, collector"
        lines += [f"  {rest:34}{whole - total:8.3f}"]
    return "\n".join([*lines, f"  {'together':34}{whole or total:8.3f}"])


class _Program:
    """An agent's stream and its table without a worker around them."""

    def __init__(self, app: streamapp.App, store: RocksStore) -> None:
        self.topic = app.topic("events", key_type=str, value_type=Event)
        self.table = app.Table("sums", default=int, partitions=PARTITIONS)
        self.store = store
        budget = CacheBudget(32 << 20)
        for number in range(PARTITIONS):
            self.table.shards[number] = Shard(
                "sums",
                number,
                partitions=PARTITIONS,
                prefix=shard_prefix("sums", number),
                store=store,
                codec=self.table.codec,
                budget=budget,
            )
        self.app = app

    async def run(self, batches: list[RecordBatch], values: list[list[Any]], agent: _Agent) -> None:
        """Let an agent work through decoded batches."""
        ready = iter(values)
        plan = FeedPlan(
            "stages",
            ("events",),
            lambda _: next(ready),
            Rejects("stages", "dead", ErrorPolicy(), FeedStats()),
            Gate(),
            Outbox(),
            lambda _: PARTITIONS,
            lambda _: None,
        )
        feed = ChunkFeed(plan)
        for batch in batches:
            if not feed.owns(batch.tp):
                feed.start(batch.tp, 0, 0)
            feed.put(batch)
        stream = self.app.stream(self.topic)
        stream.feed = feed
        await agent(stream, sum(map(len, batches)))

    async def read(self, stream: Any, events: int) -> None:  # noqa: ANN401 - Faust's stream
        """Do nothing with each event: what remains is the engine."""
        async for _ in stream:
            events -= 1
            if not events:
                break

    async def add(self, stream: Any, events: int) -> None:  # noqa: ANN401 - Faust's stream
        """Do what the scenario does."""
        table = self.table
        async for event in stream:
            table[event.user] += event.amount
            events -= 1
            if not events:
                break

    def take(self) -> list[OutRecord]:
        """Return the changelog records of a commit."""
        records = []
        for number, shard in self.table.shards.items():
            changes = shard.take()
            records += change_records(TP(_CHANGELOG, number), changes, 0)
            shard.flushed(changes)
        return records


def _round(program: _Program, broker: Broker, workload: Workload) -> dict[str, float]:
    watch = _Watch()
    gc.collect()
    batches = watch.time("fetch", lambda: _fetch(broker, workload))
    decode = program.topic.decode_batch
    values = watch.time("decode", lambda: [decode(batch) for batch in batches])
    watch.time("deliver", lambda: asyncio.run(program.run(batches, values, program.read)))
    watch.time("add", lambda: asyncio.run(program.run(batches, values, program.add)))
    records = watch.time("take", program.take)
    watch.time("pack", lambda: draft(records))
    watch.time("append", lambda: broker.append(records))
    rows = {record.key or b"": record.value for record in records}
    watch.time("store", lambda: program.store.apply(rows))
    spent, events = watch.spent, workload.events
    per_commit, per_flush = 1 / _COMMIT_EVENTS, 1 / _STORE_EVENTS
    return {
        "fetch: rows of the log to batches": spent["fetch"] / events,
        "decode: JSON to records": spent["decode"] / events,
        "deliver: one event to the agent": spent["deliver"] / events,
        "table: read and write of the row": (spent["add"] - spent["deliver"]) / events,
        "commit: encode changed rows": spent["take"] * per_commit,
        "commit: pack records": spent["pack"] * per_commit,
        "commit: write to the log": (spent["append"] - spent["pack"]) * per_commit,
        "store: write of the rows": spent["store"] * per_flush,
    }


class _Watch:
    """CPU seconds by name."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def time(self, name: str, function: Callable[[], _T]) -> _T:
        """Call and time a function."""
        begun = time.process_time()
        result = function()
        self.spent[name] = time.process_time() - begun
        return result


def _fetch(broker: Broker, workload: Workload) -> list[RecordBatch]:
    reader = broker.reader()
    reader.assign(dict.fromkeys(workload.tps(), 0))
    batches: list[RecordBatch] = []
    while fetched := reader.poll(0.0, _FETCH):
        batches += fetched
    reader.close()
    return batches
