"""The events of the programs, and the totals that are right: the same numbers at every call."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from streamapp.core.batch import TP, OutRecord
from streamapp.transport.partitioner import partition_for_key

#: The first record's epoch ms; one ms later for each that follows.
START_MS = 1_700_000_000_000
_SEED = 1
#: A prime that no number of users shares a factor with: steps by it visit each of them once.
_STEP = 1_000_003


@dataclass(frozen=True, slots=True)
class Workload:
    """``events`` of ``users`` drawn at random; all of them in turn if there are not fewer users."""

    events: int
    users: int = 10_000

    def numbers(self) -> Iterator[int]:
        """Iterate over the user's number of each event."""
        if self.users >= self.events:
            return (number * _STEP % self.users for number in range(self.events))
        draw, users = random.Random(_SEED).random, self.users
        return (int(draw() * users) for _ in range(self.events))

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over key and value of each event: 105 bytes of JSON, five fields."""
        for number, user in enumerate(self.numbers()):
            yield b"user-%08d" % user, event(number, user)

    def running(self) -> Iterator[tuple[str, int]]:
        """Iterate over the user of each event, and the user's total with it."""
        totals: dict[int, int] = {}
        for number, user in enumerate(self.numbers()):
            totals[user] = total = totals.get(user, 0) + amount_of(number)
            yield f"user-{user:08d}", total

    def totals(self) -> dict[str, int]:
        """Return what a table must hold at the end."""
        return dict(self.running())


def amount_of(number: int) -> int:
    """Return the amount of an event."""
    return 1 + number % 100


def event(number: int, user: int) -> bytes:
    """Return the bytes of an event."""
    return (
        b'{"id":%d,"user":"user-%08d","amount":%d,'
        b'"page":"/products/keyboards","agent":"Mozilla/5.0 (X11)"}'
        % (number, user, amount_of(number))
    )


def record(topic: str, number: int, key: bytes, value: bytes, partitions: int) -> OutRecord:
    """Return the ``number``-th record of a topic, in the partition of its key."""
    tp = TP(topic, partition_for_key(key, partitions))
    return OutRecord(tp, key, value, START_MS + number)
