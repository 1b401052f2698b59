"""The application that crash tests kill: every way in which agents change tables and topics.

What each agent does is repeated in ``reference``, which shares no code with it. Run by ``zygote``,
or alone: ``STREAMAPP_CRASH_PLAN='{...}' python -m support.crash_app``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import faust
import msgspec
from support import pipeline_app, pipeline_planted, planted

import streamapp
from streamapp import faults
from streamapp.engine.policy import ErrorPolicy
from streamapp.transport.sqlite.member import SqliteMember

#: Rows of the bounded list of each key.
LISTED = 8
VARIABLE = "STREAMAPP_CRASH_PLAN"


class Plan(msgspec.Struct, frozen=True):
    """How one worker runs. Everything that is random is drawn by the test."""

    folder: str
    batch_max: int = 1_000
    commit_ms: int = 50
    store_ms: int = 500
    cache_bytes: int = 1 << 20
    partitions: int = 2
    concurrency: int = 2
    wait_share: float = 0.0
    wait_ms: int = 10
    session_ms: int = 10_000
    checkpoint_ms: int = 60_000
    datadir: str = ""
    planted: str = ""
    crash_at: str = ""
    traces: bool = False
    pipelines: bool = False
    web_port: int = 0
    standbys: int = 0
    seed: int = 0
    url: str = ""
    guarantee: str = ""

    @property
    def broker(self) -> str:
        return self.url or f"sqlite://{self.folder}/bus?session_timeout={self.session_ms}ms"

    @property
    def data(self) -> Path:
        return Path(self.datadir or f"{self.folder}/data")


@dataclass(slots=True)
class Worker:
    """What the agents of one process share beside the tables."""

    plan: Plan
    draw: random.Random = field(init=False)
    tries: dict[int, int] = field(default_factory=dict)
    is_ready: bool = False
    notes: TextIO | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(self.plan.seed ^ os.getpid())

    async def maybe_wait(self, agent: str, value: dict[str, Any]) -> None:
        """Await in the middle of an event: for a moment, or until the test says so.

        A record names the one agent that hangs on it, and the file that lets it go on.
        """
        self.note_begin()
        if value.get("hangs") == agent:
            self.touch("go-on.begun")
            while not self.may_go_on():  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.01)
        elif self.draw.random() < self.plan.wait_share:
            await asyncio.sleep(self.draw.randint(0, self.plan.wait_ms) / 1_000)

    def note_begin(self) -> None:
        """Tell the test that this worker processes."""
        if not self.is_ready:
            self.is_ready = True
            self.touch(f"ready-{os.getpid()}")

    def touch(self, name: str) -> None:
        Path(self.plan.folder, name).touch()

    def may_go_on(self) -> bool:
        return Path(self.plan.folder, "go-on").exists()

    def trace(self, event: Any) -> None:
        """Note the event in the file of this process."""
        if self.plan.traces:
            place = event.message
            if self.notes is None:
                self.notes = Path(self.plan.folder, f"trace-{os.getpid()}").open("a", buffering=1)  # noqa: SIM115 - the end of the process closes it
            self.notes.write(f"{place.partition} {place.offset} {time.monotonic_ns()}\n")


def build(plan: Plan) -> streamapp.App:
    app = streamapp.App(
        "crash",
        broker=plan.broker,
        guarantee=plan.guarantee or None,
        datadir=str(plan.data),
        web_enabled=plan.web_port > 0,
        web_port=plan.web_port or None,
        web_bind="127.0.0.1",
        topic_partitions=plan.partitions,
        commit_interval=f"{plan.commit_ms}ms",
        store_interval=f"{plan.store_ms}ms",
        cache_size=plan.cache_bytes,
        batch_max=plan.batch_max,
        checkpoint_interval=f"{plan.checkpoint_ms}ms",
        standbys=plan.standbys,
    )
    worker = Worker(plan)
    if plan.pipelines:
        pipeline_app.declare(app, worker.note_begin)
        return app
    source = app.topic("in", key_type=str, value_type=dict[str, Any])
    declare_counters(app, source, worker)
    declare_ordered(app, source, worker)
    declare_outputs(app, source, worker)
    return app


def declare_counters(app: streamapp.App, source: Any, worker: Worker) -> None:
    counts = app.Table("counts", default=int)
    sums = app.Table("sums", default=int)
    lists = app.Table("lists", default=list)
    present = app.Table("present")
    shared = app.Table("shared", default=int)

    @app.agent(source)
    async def count(stream: Any) -> None:
        async for key, value in stream.items():
            counts[key] += 1
            before = shared[key]
            await worker.maybe_wait("count", value)
            sums[key] += value["n"]
            lists[key] = [*lists[key], value["id"]][-LISTED:]
            shared[key] = before + 1
            if value["op"] == "put":
                present[key] = value["id"]
            elif value["op"] == "del":
                present.pop(key, None)

    @app.agent(source)
    async def second(stream: Any) -> None:
        async for key, value in stream.items():
            if "hangs" in value:
                continue  # nobody else touches the rows of an event that hangs
            before = shared[key]
            await worker.maybe_wait("second", value)
            shared[key] = before + 1_000


def declare_ordered(app: streamapp.App, source: Any, worker: Worker) -> None:
    last = app.Table("last")
    chain = app.Table("chain", default=int)
    groups = app.Table("groups", default=int)
    members = app.Table("members", default=int)

    @app.agent(source, concurrency=worker.plan.concurrency)
    async def ordered(stream: Any) -> None:
        async for event in stream.events():
            last[event.key] = event.value["id"]
            await worker.maybe_wait("ordered", event.value)
            text = f"{chain[event.key]} {event.message.offset}"
            chain[event.key] = zlib.crc32(text.encode())

    @app.agent(source)
    async def regroup(stream: Any) -> None:
        async for value in stream.group_by(lambda value: value["group"], name="group"):
            groups[value["group"]] += value["n"]
            await worker.maybe_wait("regroup", value)
            members[value["group"]] += 1


def declare_outputs(app: streamapp.App, source: Any, worker: Worker) -> None:
    out = app.topic("out", key_type=str, value_type=dict[str, Any])
    flaky_counts = app.Table("flaky", default=int)

    @app.agent(source)
    async def forward(stream: Any) -> None:
        async for event in stream.events():
            worker.trace(event)
            place = event.message
            value = {"id": event.value["id"], "offset": place.offset}
            await out.send(key=event.key, value=value, partition=place.partition)
            await worker.maybe_wait("forward", event.value)

    @app.agent(source, on_error=ErrorPolicy(retries=2, backoff_ms=1))
    async def flaky(stream: Any) -> None:
        async for event in stream.events():
            value, place = event.value, event.message
            flaky_counts[event.key] += 1
            wrong = {"id": value["id"], "offset": place.offset, "flaky": True}
            if value["fails"]:
                await out.send(key=event.key, value=wrong, partition=place.partition)
            tries = worker.tries.get(value["id"], 0)
            if tries < value["fails"]:
                worker.tries[value["id"]] = tries + 1 if value["fails"] < 3 else 0
                message = "fails as it is told"
                raise RuntimeError(message)


def run(plan: Plan) -> None:
    """Become a worker; returns never."""
    faults._point, faults._passages_left = faults.parse_plan(plan.crash_at)
    app = build(plan)
    if plan.planted:
        (planted.BUGS | pipeline_planted.BUGS)[plan.planted]()
    if plan.traces:
        trace_commits(Path(plan.folder, f"commits-{os.getpid()}"))
    worker = faust.Worker(app, loglevel=logging.INFO, redirect_stdouts=False)
    worker.execute_from_commandline()


def trace_commits(path: Path) -> None:
    """Note the commits of the input: partition, next offset, monotonic ns before and after."""
    commit = SqliteMember.commit
    file = path.open("a", buffering=1)

    def traced(self: SqliteMember, records: Any, positions: Any) -> list[int]:
        begun_ns = time.monotonic_ns()
        offsets = commit(self, records, positions)
        ended_ns = time.monotonic_ns()
        for tp, position in positions.items():
            if tp.topic == "in":
                file.write(f"{tp.partition} {position.offset} {begun_ns} {ended_ns}\n")
        return offsets

    SqliteMember.commit = traced  # type: ignore[method-assign]


if __name__ == "__main__":
    logging.raiseExceptions = False
    run(msgspec.json.decode(os.environ[VARIABLE], type=Plan))
    sys.exit(0)
