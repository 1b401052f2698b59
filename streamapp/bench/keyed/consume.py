"""A bare loop without any framework: ``python -m streamapp.bench.keyed.consume``.

Reads, decodes, adds up, and commits its positions four times a second: what one writes who keeps
nothing. On Kafka that is confluent-kafka's consumer with the settings that make it fast; elsewhere
a member of a group of the embedded broker, without an engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from streamapp.bench.keyed.plan import Plan, Stopwatch, told
from streamapp.core.batch import TP, RecordBatch
from streamapp.transport.broker import Assigned, Position
from streamapp.transport.connect import open_broker

_COMMIT_S = 0.25
_WAIT_S = 0.05
_FETCH = 5_000


class Event(msgspec.Struct, gc=False):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


class Source(Protocol):
    """Where the events come from."""

    def fetch(self) -> Sequence[bytes | None]:
        """Return the next values, none if there are none in time."""

    def commit(self) -> None:
        """Commit the positions behind what was fetched."""


class KafkaSource:
    """The topic on Kafka."""

    def __init__(self, plan: Plan) -> None:
        from confluent_kafka import Consumer  # noqa: PLC0415 - not for other brokers

        self._consumer = Consumer(
            {"bootstrap.servers": plan.servers, "group.id": plan.app, "enable.auto.commit": False,
             "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": 10,
             "fetch.wait.max.ms": 100}
        )  # fmt: skip
        self._consumer.subscribe([plan.topic])

    def fetch(self) -> Sequence[bytes | None]:
        """See ``Source``."""
        first = self._consumer.poll(_WAIT_S)
        if first is None:
            return ()
        return [m.value() for m in (first, *self._consumer.consume(_FETCH - 1, 0))]

    def commit(self) -> None:
        """See ``Source``."""
        self._consumer.commit(asynchronous=False)


class EmbeddedSource:
    """The topic on the embedded broker."""

    def __init__(self, plan: Plan) -> None:
        self._member = open_broker(plan.broker, Path(plan.folder)).join(plan.app, [plan.topic])
        self._ends: dict[TP, Position] = {}

    def fetch(self) -> Sequence[bytes | None]:
        """See ``Source``."""
        values: list[bytes | None] = []
        for found in self._member.poll(_WAIT_S, _FETCH):
            if isinstance(found, Assigned):
                self._member.seek(dict.fromkeys(found.tps, 0))
            elif isinstance(found, RecordBatch):
                values += found.values
                self._ends[found.tp] = Position(found.next_offset)
        return values

    def commit(self) -> None:
        """See ``Source``."""
        self._member.commit([], self._ends)
        self._ends = {}


def run(source: Source, watch: Stopwatch) -> None:
    """Work for ever."""
    decode = msgspec.json.Decoder(Event).decode
    commit_at, is_done = time.monotonic() + _COMMIT_S, True
    while True:
        values = source.fetch()
        for event in map(decode, values):  # type: ignore[arg-type] # none is deleted
            watch.total += event.amount
            watch.count()
        is_done = is_done and not values
        if not is_done and time.monotonic() >= commit_at:
            source.commit()
            commit_at, is_done = time.monotonic() + _COMMIT_S, True


if __name__ == "__main__":
    plan = told()
    is_kafka = plan.broker.startswith("kafka://")
    run(KafkaSource(plan) if is_kafka else EmbeddedSource(plan), Stopwatch(plan))
