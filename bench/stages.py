"""Where the CPU time of ``totals[user] += amount`` goes: each stage alone, on the same events.

The functions are those that a worker calls, in one thread, with nothing else running; the times are
CPU times. What a worker needs beyond their sum (threads that wait for each other, wake-ups, the
collector) is not a stage: ``describe`` names it as the rest.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import streamapp
from streamapp.bench.keyed import runs
from streamapp.bench.keyed.plan import PARTITIONS, Plan
from streamapp.bench.keyed.workload import Workload
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
from streamapp.transport.sqlite.log import draft

if TYPE_CHECKING:
    from streamapp.core.batch import OutRecord, RecordBatch
    from streamapp.serde.codecs import Decoded
    from streamapp.transport.broker import Broker, Reader

#: Records of one fetch, as in a worker; all stages of a round work on the records of one.
_FETCH = 5_000
_USERS = 10_000
#: Rows changed per event: all of them in each commit (250 ms at 200,000 events a second), and in
#: each write of the store (2 s at that rate).
_COMMITTED_ROWS = _USERS / 50_000
_STORED_ROWS = _USERS / 400_000
_CHANGELOG = "stages-changelog"

_T = TypeVar("_T")
_Agent = Callable[[Any, int], Awaitable[None]]


class Event(streamapp.Record):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


def profile(events: int) -> dict[str, float]:
    """Return the CPU microseconds per event of each stage, the median of many rounds."""
    with ExitStack() as opened:
        here = opened.enter_context(runs.place("sqlite://", {}))
        plan = Plan("ours", "table", "stages", here.url, str(here.folder), events)
        runs.fill(here.broker, plan, Workload(events, _USERS))
        here.broker.create_topic(TopicSpec(_CHANGELOG, PARTITIONS))
        store = RocksStore.open(here.folder / "store")
        opened.callback(store.close)
        app = streamapp.App(plan.app, broker=here.url, datadir=here.folder)
        program = _Program(app, store, plan.topic)
        opened.callback(program.close)
        reader = here.broker.reader()
        opened.callback(reader.close)
        reader.assign({TP(plan.topic, number): 0 for number in range(PARTITIONS)})
        rounds = []
        while spent := _round(program, here.broker, reader):
            rounds.append(spent)
    return {
        stage: round(statistics.median(each[stage] for each in rounds) * 1e6, 3)
        for stage in rounds[0]
    }


def describe(found: dict[str, float], whole: float | None) -> str:
    """Return the stages as lines; ``whole`` is what a worker needs for an event."""
    lines = [f"  {stage:34}{us:8.3f}" for stage, us in found.items()]
    total = sum(found.values())
    if whole is not None:
        rest = "the rest: threads, wake-ups, collector"
        lines += [f"  {rest:34}{whole - total:8.3f}"]
    return "\n".join([*lines, f"  {'together':34}{whole or total:8.3f}"])


class _Stream:
    """A stream whose feed is filled by hand; ``ready`` are the decoded values of its batches."""

    def __init__(self, app: streamapp.App, topic: Any) -> None:  # noqa: ANN401 - Faust's topic
        self.ready: list[Decoded] = []
        name = topic.get_topic_name()
        self.feed = ChunkFeed(
            FeedPlan(
                "stages",
                (name,),
                lambda _: self.ready.pop(0),
                Rejects("stages", "dead", ErrorPolicy(), FeedStats()),
                Gate(),
                Outbox(),
                lambda _: PARTITIONS,
                lambda _: None,
            )
        )
        for number in range(PARTITIONS):
            self.feed.start(TP(name, number), 0, 0)
        self.values = app.stream(topic)
        self.values.feed = self.feed


class _Program:
    """An agent's stream and its table without a worker around them."""

    def __init__(self, app: streamapp.App, store: RocksStore, topic: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.topic = app.topic(topic, key_type=str, value_type=Event)
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
        self.streams = {name: _Stream(app, self.topic) for name in ("read", "add")}

    def close(self) -> None:
        """End what a worker would end."""
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def run(self, batches: list[RecordBatch], values: list[Decoded], agent: _Agent) -> None:
        """Let an agent work through decoded batches."""
        stream = self.streams[agent.__name__]
        stream.ready[:] = values
        for batch in batches:
            stream.feed.put(batch)
        self.loop.run_until_complete(agent(stream.values, sum(map(len, batches))))

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


def _round(program: _Program, broker: Broker, reader: Reader) -> dict[str, float]:
    """Return the CPU seconds per event of each stage over one fetch; nothing at the end."""
    watch = _Watch()
    batches = watch.time("fetch", lambda: reader.poll(0.0, _FETCH))
    if not batches:
        return {}
    decode = program.topic.decode_batch
    values = watch.time("decode", lambda: [decode(batch) for batch in batches])
    watch.time("deliver", lambda: program.run(batches, values, program.read))
    watch.time("add", lambda: program.run(batches, values, program.add))
    records = watch.time("take", program.take)
    watch.time("pack", lambda: draft(records))
    watch.time("append", lambda: broker.append(records))
    rows = {record.key or b"": record.value for record in records}
    watch.time("store", lambda: program.store.apply(rows))
    spent, events = watch.spent, sum(map(len, batches))
    per_commit, per_flush = _COMMITTED_ROWS / len(records), _STORED_ROWS / len(records)
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
