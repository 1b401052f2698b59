"""The worker whose latency is measured: an output for each event, all settings at their defaults.

It wraps the places where records change hands, to note when: only here, the product knows nothing
of it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latency_roles import GROUP, OUT, SOURCE, WORKED, Stamps, number_in, plan

import streamapp
from streamapp.bench.keyed.plan import PARTITIONS
from streamapp.core.batch import RecordBatch
from streamapp.engine.engine import Engine
from streamapp.engine.feed import Feed
from streamapp.engine.group import GroupFollower
from streamapp.transport.sqlite.bell import Bell, Bells
from streamapp.transport.sqlite.locks import FileLock
from streamapp.transport.sqlite.member import SqliteMember

folder = Path(plan["folder"])
app = streamapp.App(
    GROUP,
    broker=f"sqlite://{folder}/bus",
    datadir=folder / "data",
    topic_partitions=PARTITIONS,
    web_enabled=False,
)
stamps = Stamps(*WORKED)
(woke, polled, delivered, decoded, ran, cut, begun, locked, committed, rung) = (
    stamps.columns.values()
)
#: When each thread last passed a place that knows no records.
last = threading.local()


class Event(streamapp.Record):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


events = app.topic(SOURCE, key_type=str, value_type=Event)
out = app.topic(OUT, key_type=str, value_type=int)
cpu_began = 0.0


@app.agent(events, sink=[out])
async def forward(stream: Any) -> Any:  # noqa: ANN401 - Faust's stream
    """Send an output for every event."""
    global cpu_began  # noqa: PLW0603 - one program, one figure
    async for each in stream:
        if not cpu_began:
            cpu_began = time.process_time()
        ran[each.id] = time.monotonic()
        yield each.id


def _noted(cls: type, name: str, note: Callable[..., None]) -> None:
    """Call ``note`` with the result and the arguments of a method after each call of it."""
    original = getattr(cls, name)

    def method(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any method
        result = original(*args, **kwargs)
        note(result, *args)
        return result

    setattr(cls, name, method)


def _on_time(field: str) -> Callable[..., None]:
    return lambda *_: setattr(last, field, time.monotonic())


def _on_poll(result: list[Any], *_: object) -> None:
    now = time.monotonic()
    for number in _numbers(result):
        woke[number], polled[number] = last.woke, now


def _on_deliver(_: None, __: Engine, given: list[Any]) -> None:
    now = time.monotonic()
    for number in _numbers(given):
        delivered[number] = now


def _on_decoded(_: object, __: Feed, batch: RecordBatch) -> None:
    now = time.monotonic()
    for number in _numbers([batch]):
        decoded[number] = now


def _on_cut(result: Any, *_: object) -> None:  # noqa: ANN401 - a Cut
    now = time.monotonic()
    for output in result.outputs:
        cut[int(output.value)] = now


def _on_commit(result: object, _: SqliteMember, records: Any, __: object) -> None:  # noqa: ANN401
    if result is None:
        return
    now = time.monotonic()
    for output in records:
        if output.tp.topic == OUT:
            number = int(output.value)
            begun[number], locked[number] = last.begun, last.locked
            committed[number], rung[number] = last.committed, now


def _numbers(given: list[Any]) -> list[int]:
    batches = [each for each in given if isinstance(each, RecordBatch) and each.tp.topic == SOURCE]
    return [number_in(value) for batch in batches for value in batch.values]


def _before(cls: type, name: str, field: str) -> None:
    original = getattr(cls, name)

    def method(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any method
        setattr(last, field, time.monotonic())
        return original(*args, **kwargs)

    setattr(cls, name, method)


def _report() -> None:
    """When the input ends, say what was noted."""
    sys.stdin.read()
    spent = time.process_time() - cpu_began
    stamps.write()
    # Faust has put its log in the place of stdout.
    print("cpu", spent, file=sys.__stdout__, flush=True)


for name in ("wait", "drain"):
    if hasattr(Bell, name):
        _noted(Bell, name, _on_time("woke"))
for name in ("poll", "poll_nowait"):
    if hasattr(SqliteMember, name):
        _noted(SqliteMember, name, _on_poll)
for name in ("commit", "commit_at_once"):
    if hasattr(SqliteMember, name):
        _before(SqliteMember, name, "begun")
        _noted(SqliteMember, name, _on_commit)
for name in ("acquire", "acquire_within"):
    if hasattr(FileLock, name):
        _noted(FileLock, name, _on_time("locked"))
_before(Bells, "ring", "committed")
_noted(Engine, "deliver", _on_deliver)
_noted(Feed, "_chunk_of", _on_decoded)
_noted(GroupFollower, "take_cut", _on_cut)
threading.Thread(target=_report, daemon=True).start()
