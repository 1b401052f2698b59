"""The events that every benchmark reads, and what a right result of them is.

About 110 bytes of JSON with five fields, three of which are read; keyed by user, four partitions.
The same numbers come out at every call, so runs can be compared and sums can be checked.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, OutRecord
from streamapp.transport.broker import TopicSpec
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

PARTITIONS = 4
KEYS = 10_000
#: The first record's epoch ms; one ms later for each that follows.
START_MS = 1_700_000_000_000
#: Records written at once.
_PRELOAD = 20_000
_SEED = 1


@dataclass(frozen=True, slots=True)
class Workload:
    """``events`` records in ``topic``; ``keys`` users at random, or each event its own user."""

    topic: str
    events: int
    keys: int | None = KEYS

    def users(self) -> Iterator[int]:
        """Return the user's number of each event."""
        numbers = random.Random(_SEED)
        if self.keys is None:
            yield from numbers.sample(range(self.events), self.events)
        else:
            draw, keys = numbers.random, self.keys
            yield from (int(draw() * keys) for _ in range(self.events))

    def sums(self) -> dict[str, int]:
        """Return the sum of the amounts of each user: what a table must hold at the end."""
        sums: dict[str, int] = {}
        for number, user in enumerate(self.users()):
            name = f"user-{user:07d}"
            sums[name] = sums.get(name, 0) + amount_of(number)
        return sums

    @property
    def total(self) -> int:
        """The sum of all amounts."""
        return sum(map(amount_of, range(self.events)))

    def tps(self) -> list[TP]:
        """Return the partitions of the topic."""
        return [TP(self.topic, number) for number in range(PARTITIONS)]


def amount_of(number: int) -> int:
    """Return the amount of an event."""
    return 1 + number % 100


def event(number: int, user: int) -> bytes:
    """Return the bytes of an event."""
    return (
        b'{"id":%d,"user":"user-%07d","amount":%d,'
        b'"page":"/products/keyboards","agent":"Mozilla/5.0 (X11)"}'
        % (number, user, amount_of(number))
    )


def preload(broker: Broker, workload: Workload) -> None:
    """Create the topic and fill it."""
    broker.create_topic(TopicSpec(workload.topic, PARTITIONS))
    records = (
        record(workload.topic, b"user-%07d" % user, event(number, user), START_MS + number)
        for number, user in enumerate(workload.users())
    )
    _append(broker, records)


def preload_changelog(
    broker: Broker, topic: str, workload: Workload, encode_key: Callable[[str], bytes]
) -> None:
    """Write the changelog of a table that took the workload in, one record for each event."""
    broker.create_topic(TopicSpec(topic, PARTITIONS, frozenset({"compact"}), None, None))
    sums: dict[int, int] = {}

    def records() -> Iterator[OutRecord]:
        for number, user in enumerate(workload.users()):
            sums[user] = sums.get(user, 0) + amount_of(number)
            name = f"user-{user:07d}"
            tp = TP(topic, partition_for_key(name.encode(), PARTITIONS))
            yield OutRecord(tp, encode_key(name), b"%d" % sums[user], START_MS + number)

    _append(broker, records())


def record(topic: str, key: bytes, value: bytes, timestamp_ms: int) -> OutRecord:
    """Return a record in the partition of its key."""
    return OutRecord(TP(topic, partition_for_key(key, PARTITIONS)), key, value, timestamp_ms)


def read_all(broker: Broker, topic: str) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Iterate over key and value of all records that a topic has now, partition by partition."""
    tps = [TP(topic, number) for number in range(PARTITIONS)]
    ends = {tp: log.end for tp, log in broker.offsets(tps).items()}
    for tp, end in ends.items():
        reader = broker.reader()
        reader.assign({tp: 0})
        at = 0
        while at < end:
            for batch in reader.poll(1.0, 10_000):
                yield from zip(batch.keys, batch.values, strict=True)
                at = batch.next_offset
        reader.close()


def cpu_s() -> float:
    """Return the CPU seconds of this process, all its threads, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _append(broker: Broker, records: Iterator[OutRecord]) -> None:
    while part := list(islice(records, _PRELOAD)):
        broker.append(part)
