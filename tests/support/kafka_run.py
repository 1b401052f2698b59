"""A run of the crash application over a real Kafka; see ``crash_run``.

What differs: a partition may end behind its last record, and outputs may repeat after a crash
unless they are part of the transaction.
"""

from __future__ import annotations

import random
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from support import kafka
from support.crash_app import Plan
from support.crash_run import Run
from support.kafka_audit import audit
from support.pipeline_run import PipelineRun
from support.queue_checker import Sent
from support.reference import Effects, Seen

from streamapp.core.batch import TP
from streamapp.errors import StreamappError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.zygote import Zygote

    from streamapp.transport.broker import Reader

_READ_S = 60.0


def kafka_plan(
    folder: Path, seed: int, cluster: kafka.Cluster | None = None, **changes: Any
) -> Plan:
    """Draw the settings of a run; ``session_ms`` of the workers is one second."""
    draw = random.Random(seed)
    servers = (cluster or kafka.shared()).bootstrap
    plan = Plan(
        str(folder),
        batch_max=draw.choice([7, 100, 5_000]),
        commit_ms=draw.choice([20, 100, 250]),
        store_ms=draw.choice([1, 50, 500]),
        cache_bytes=draw.choice([1 << 16, 1 << 20]),
        partitions=draw.randint(2, 4),
        concurrency=draw.randint(1, 4),
        wait_share=draw.choice([0.0, 0.02]),
        wait_ms=draw.choice([0, 5]),
        session_ms=1_000,
        seed=seed,
        guarantee=draw.choice(["", "exactly_once"]),
    )
    plan = msgspec.structs.replace(plan, **changes)
    url = f"kafka://{servers}?session_timeout={plan.session_ms}ms&prefix={uuid.uuid4().hex[:8]}."
    return msgspec.structs.replace(plan, url=url)


class OnKafka(Run):
    """What of a run is another thing over Kafka; stands before the run."""

    def __init__(self, zygote: Zygote, plan: Plan) -> None:
        super().__init__(zygote, plan)
        self._readers: dict[str, Reader] = {}
        #: Behind the last record of each partition.
        self._ends: dict[TP, int] = {}

    def _behind(self, topic: str) -> int:
        tps = self.partitions(topic)
        if not tps:
            return 1
        self._look(topic, tps)
        done = self.bus.committed("crash", tps)
        return sum(
            max(0, self._ends.get(tp, 0) - (done[tp].offset if tp in done else 0)) for tp in tps
        )

    def _look(self, topic: str, tps: list[TP]) -> None:
        reader = self._readers.get(topic)
        if reader is None:
            reader = self._readers[topic] = self.bus.reader()
            reader.assign(dict.fromkeys(tps, 0))
        ends = {tp: span.end for tp, span in self.bus.offsets(tps).items()}
        for seen in self._until(reader, ends):
            tp = TP(topic, seen.partition)
            self._ends[tp] = max(seen.offset + 1, self._ends.get(tp, 0))

    def read(self, topic: str) -> list[Seen]:
        """Return all records of a topic."""
        ranges = self.bus.offsets(self.partitions(topic))
        reader = self.bus.reader()
        try:
            reader.assign({tp: span.earliest for tp, span in ranges.items()})
            return list(self._until(reader, {tp: span.end for tp, span in ranges.items()}))
        finally:
            reader.close()

    def _until(self, reader: Reader, ends: dict[TP, int]) -> Iterator[Seen]:
        deadline = time.monotonic() + _READ_S
        while any(reader.positions()[tp] < end for tp, end in ends.items()):
            assert time.monotonic() < deadline, (reader.positions(), ends, self.log_tail())
            for batch in reader.poll(0.2, 10_000):
                heads = batch.headers or ((),) * len(batch)
                rows = zip(batch.offsets, batch.keys, batch.values, heads, strict=True)
                for offset, key, value, head in rows:
                    yield Seen(batch.tp.partition, offset, key, value, dict(head))


class KafkaRun(OnKafka):
    """See ``Run``."""

    def __init__(self, zygote: Zygote, plan: Plan) -> None:
        super().__init__(zygote, plan)
        self.servers = plan.url.removeprefix("kafka://").partition("?")[0]
        #: What was fed, as the cluster answered; what it did not answer, may be there.
        self.acknowledged: list[Sent] = []
        self.unanswered: list[Any] = []

    def feed(self, count: int, **fields: Any) -> None:
        """See ``Run.feed``; keeps what the cluster says to it."""
        records = [self._record(fields) for _ in range(count)]
        try:
            offsets = self.bus.append(records)
        except StreamappError:
            self.unanswered += [(one.key, one.value) for one in records]
            raise
        self.acknowledged += [
            Sent(one.tp.partition, offset, (one.key, one.value))
            for one, offset in zip(records, offsets, strict=True)
        ]

    def differences(self) -> list[str]:
        """See ``Run.differences``; also holds all logs against the input."""
        return [*super().differences(), *audit(self)]

    def committed(self) -> Effects:
        """Return what the cluster says was done; a repeated output counts once."""
        effects = super().committed()
        if self.plan.guarantee != "exactly_once":
            for partition, outputs in effects.outputs.items():
                first = {(one["offset"], "flaky" in one): one for one in reversed(outputs)}
                effects.outputs[partition] = list(reversed(first.values()))
        return effects


class KafkaPipelineRun(OnKafka, PipelineRun):
    """See ``PipelineRun``; with ``exactly_once``, as it compares outputs one by one."""

    def __init__(self, zygote: Zygote, plan: Plan) -> None:
        super().__init__(zygote, plan)
        self._now = 10_000  # Kafka's records have no times before 1970


@contextmanager
def running_on_kafka(
    zygote: Zygote, plan: Plan, kind: type[OnKafka] = KafkaRun
) -> Iterator[OnKafka]:
    """Open a run; its workers are gone afterwards."""
    run = kind(zygote, plan)
    try:
        yield run
    finally:
        run.close()
