"""Messages of a consumer as columns: what a loop over them would gather."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP
from streamapp.transport.kafka.fetched import Fetched
from streamapp.transport.kafka.names import Names

HEADERS = st.sampled_from([None, [("h", b"1")], [("h", None), ("i", b"")]])
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["my-a", "my-b"]),
        st.integers(0, 1),
        st.sampled_from([None, b"", b"key"]),
        st.sampled_from([None, b"", b"value"]),
        HEADERS,
        st.booleans(),
    ),
    max_size=12,
)


def messages_of(drawn: list[Any]) -> list[Message]:
    failed = KafkaError(KafkaError._PARTITION_EOF)
    return [
        Message(
            topic=topic,
            partition=partition,
            offset=offset,
            key=key,
            value=value,
            headers=headers,
            timestamp=(1, 100 + offset),
            error=failed if is_error else None,
        )
        for offset, (topic, partition, key, value, headers, is_error) in enumerate(drawn)
    ]


class Queue:
    """What is there, handed out in portions like a consumer's."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages

    def consume(self, count: int, timeout: float) -> list[Message]:
        assert timeout == 0
        found, self.messages = self.messages[:count], self.messages[count:]
        return found


@given(MESSAGES, st.integers(0, 12), st.integers(0, 12))
def test_columns_are_those_of_a_loop(drawn: list[Any], first: int, room: int) -> None:
    messages = messages_of(drawn)
    fetched = Fetched(Names("my-"))
    fetched.add(messages[:first])
    queue: Any = Queue(messages[first:])
    fetched.fill(queue, room)
    taken = messages[: first + room]
    assert fetched.errors == [one for one in taken if one.error() is not None]
    expected: dict[TP, list[Any]] = {}
    for one in taken:
        if one.error() is None:
            headers = tuple((name, value or b"") for name, value in one.headers() or ())
            row = one.offset(), one.timestamp()[1], one.key(), one.value(), headers
            tp = TP((one.topic() or "").removeprefix("my-"), one.partition() or 0)
            expected.setdefault(tp, []).append(row)
    batches = fetched.batches()
    assert [batch.tp for batch in batches] == list(expected)
    for batch in batches:
        rows = expected[batch.tp]
        headers = batch.headers or [()] * len(batch)
        columns = batch.offsets, batch.timestamps, batch.keys, batch.values, headers
        assert list(zip(*columns, strict=True)) == rows
        assert (batch.headers is None) == (not any(row[4] for row in rows))
        assert batch.next_offset == rows[-1][0] + 1
        assert batch.size_bytes == sum(len(row[2] or b"") + len(row[3] or b"") for row in rows)


def test_more_than_a_portion_is_taken_whole() -> None:
    messages = messages_of([("my-a", 0, None, b"", None, False)] * 1_100)
    queue: Any = Queue(list(messages))
    fetched = Fetched(Names("my-"))
    fetched.fill(queue, 1_000)
    [batch] = fetched.batches()
    assert batch.offsets == list(range(1_000))
    assert len(queue.messages) == 100
