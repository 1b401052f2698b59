"""A plain loop over confluent-kafka and a dict: ``python -m streamapp.bench.keyed.loop``.

What one writes without any framework, with the settings that make librdkafka fast. Four times a
second it sends what has changed to a changelog, then commits its positions: at least once, no store
on disk, one process only, and what it sent before a crash is sent again.
"""

from __future__ import annotations

import time

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamapp.bench.keyed.plan import Stopwatch, told

plan = told()
watch = Stopwatch(plan)
servers = plan.servers
log = f"{plan.app}-changelog"
_COMMIT_S = 0.25
_FETCH = 5_000


class Event(msgspec.Struct, gc=False):
    """What the program reads of an event."""

    id: int
    user: str
    amount: int


class Loop:
    """The dict and its way to the changelog."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.changed: dict[str, int] = {}
        self.ends: dict[int, int] = {}
        self.producer = Producer(
            {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 1,
             "queue.buffering.max.messages": 1_000_000, "compression.type": "lz4"}
        )  # fmt: skip
        self.consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": plan.app, "enable.auto.commit": False,
             "auto.offset.reset": "earliest", "fetch.queue.backoff.ms": 10,
             "fetch.wait.max.ms": 100}
        )  # fmt: skip

    def restore(self) -> None:
        """Read the changelog to its end."""
        watch.start()
        consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": f"{plan.app}-restore",
             "enable.auto.commit": False, "fetch.queue.backoff.ms": 10}
        )  # fmt: skip
        tps = [TopicPartition(log, number, 0) for number in range(plan.partitions)]
        left = sum(consumer.get_watermark_offsets(tp)[1] for tp in tps)
        consumer.assign(tps)
        while left:
            found = consumer.consume(_FETCH, 0.1)
            for message in found:
                self.totals[(message.key() or b"").decode()] = int(message.value() or b"0")
            left -= len(found)
        consumer.close()
        watch.stop()

    def run(self) -> None:
        """Work for ever."""
        self.consumer.subscribe([plan.topic])
        commit_at = time.monotonic() + _COMMIT_S
        while True:
            first = self.consumer.poll(0.05)
            if first is not None:
                self.handle([first, *self.consumer.consume(_FETCH - 1, 0)])
            if time.monotonic() >= commit_at:
                self.commit()
                commit_at = time.monotonic() + _COMMIT_S

    def handle(self, messages: list[Message]) -> None:
        """Add up a fetch, and send each new total if asked to."""
        decode, totals, changed = msgspec.json.Decoder(Event).decode, self.totals, self.changed
        for event in [decode(message.value() or b"") for message in messages]:
            user = event.user
            totals[user] = changed[user] = total = totals.get(user, 0) + event.amount
            if plan.mode != "table":
                value = b'{"id":%d,"total":%d}' % (event.id, total)
                self.producer.produce(plan.out, value, user.encode())
        self.ends |= {m.partition() or 0: (m.offset() or 0) + 1 for m in messages}
        self.producer.poll(0)
        watch.count(len(messages))

    def commit(self) -> None:
        """Make the changelog durable, then the positions."""
        if not self.ends:
            return
        for user, total in self.changed.items():
            self.producer.produce(log, b"%d" % total, user.encode())
        self.producer.flush()
        places = [TopicPartition(plan.topic, *end) for end in self.ends.items()]
        self.consumer.commit(offsets=places, asynchronous=False)
        self.changed.clear()
        self.ends.clear()


if __name__ == "__main__":
    loop = Loop()
    if plan.mode == "recovery":
        loop.restore()
    loop.run()
