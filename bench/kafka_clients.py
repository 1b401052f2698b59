"""Confluent's clients as a measuring program needs them: a paced producer, a watching consumer.

Latency counts from the moment at which a record was due, so that a stall counts for all records
that wait behind it (no coordinated omission).
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamapp.transport.partitioner import partition_for_key

#: The client's settings without which each catch-up and each record waits for nothing.
_FAST = {"fetch.queue.backoff.ms": 10, "fetch.wait.max.ms": 100, "queued.min.messages": 20_000}
_TICK_S = 0.0005
#: Seconds that the first record has, and those that come behind the last one.
_FIRST_S, _LAST_S = 60.0, 20.0


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent; ``number`` is in its value, and in that of what is made of it."""

    number: int
    key: bytes
    value: bytes
    partition: int

    @classmethod
    def of(cls, number: int, key: bytes, value: bytes, partitions: int) -> Record:
        """Return a record in the partition of its key."""
        return cls(number, key, value, partition_for_key(key, partitions))


class BehindError(Exception):
    """Outputs did not come: the program is slower than its input."""


class Watcher:
    """Notes when outputs arrive; what they say is read later, for it would take time."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self.count = 0
        self._found: list[tuple[float, list[Message]]] = []
        self._done = threading.Event()
        self._consumer = consumer(servers)
        self._consumer.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            first = self._consumer.poll(0.1)
            if first is None:
                continue
            messages = [first, *self._consumer.consume(1_000, 0)]
            self._found.append((time.monotonic(), messages))
            self.count += len(messages)
        self._consumer.close()

    def seen(self) -> dict[int, tuple[float, int]]:
        """Return when each output came, and the total that it names, by the event's number."""
        seen = {}
        for at, messages in self._found:
            for message in messages:
                found = json.loads(message.value() or b"{}")
                seen[found["id"]] = at, found.get("total", 0)
        return seen

    def wait(self, count: int, limit_s: float) -> None:
        """Wait until so many outputs are there.

        Raises:
            BehindError: They did not come in time.
        """
        deadline = time.monotonic() + limit_s
        while self.count < count:
            if time.monotonic() > deadline:
                msg = f"{self.count} of {count} outputs"
                raise BehindError(msg)
            time.sleep(0.005)

    def close(self) -> None:
        """End."""
        self._done.set()
        self._thread.join()


@contextmanager
def watching(servers: str, topic: str, partitions: int) -> Iterator[Watcher]:
    """Watch a topic."""
    watcher = Watcher(servers, topic, partitions)
    try:
        yield watcher
    finally:
        watcher.close()


class Sender:
    """Sends records to the partitions of their keys."""

    def __init__(self, servers: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": servers, "linger.ms": 0, "enable.idempotence": True}
        )

    def send(self, record: Record) -> None:
        """Send one."""
        self._producer.produce(self._topic, record.value, record.key, record.partition)

    def flush(self) -> None:
        """Wait until all have arrived."""
        self._producer.flush(_LAST_S)

    def paced(self, records: list[Record], per_s: int) -> list[float]:
        """Send at a fixed pace; return when each was due."""
        begin = time.monotonic() + 0.1
        at = 0
        while at < len(records):
            due = min(len(records), int((time.monotonic() - begin) * per_s) + 1)
            for record in records[at : max(at, due)]:
                self.send(record)
            at = max(at, due)
            self._producer.poll(0)
            time.sleep(_TICK_S)
        self.flush()
        return [begin + number / per_s for number in range(len(records))]


def consumer(servers: str) -> Consumer:
    """Return a consumer in no group."""
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-watcher",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            **_FAST,
        }
    )


def latencies_ms(
    sender: Sender, watcher: Watcher, records: list[Record], per_s: int
) -> dict[str, float]:
    """Send records paced and wait for all outputs; the first second warms caches up.

    Raises:
        BehindError: The program did not keep up.
    """
    before = watcher.count
    due = sender.paced(records, per_s)
    watcher.wait(before + len(records), _LAST_S)
    seen = watcher.seen()
    late = sorted(
        (seen[record.number][0] - at) * 1e3
        for at, record in zip(due, records, strict=True)
        if record.number >= per_s
    )
    return {
        "p50": round(statistics.median(late), 2),
        "p99": round(late[len(late) * 99 // 100], 2),
        "max": round(late[-1], 2),
    }


def wake(sender: Sender, watcher: Watcher, record: Record) -> None:
    """Send one record and wait for its output: the program is at work then."""
    sender.send(record)
    sender.flush()
    watcher.wait(1, _FIRST_S)


def consume_all(servers: str, topic: str, partitions: int, count: int) -> dict[str, float]:
    """Read a topic with nothing done for its records: the floor of any program.

    Returns:
        ``wall_per_s`` and ``cpu_us`` of this process.
    """
    reader = consumer(servers)
    reader.assign([TopicPartition(topic, n, 0) for n in range(partitions)])
    left = count
    first = reader.poll(_FIRST_S)
    wall, cpu = time.perf_counter(), time.process_time()
    left -= first is not None
    while left:
        left -= len(reader.consume(min(left, 1_000), 0.1))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    reader.close()
    return {"wall_per_s": round(count / wall), "cpu_us": round(cpu / count * 1e6, 3)}
