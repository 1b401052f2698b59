"""Messages of a consumer as columns: what a loop over them would gather."""

from __future__ import annotations

from array import array
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, Message
from hypothesis import given
from hypothesis import strategies as st
from support.compiled import needs_message_columns

from streamapp.core.batch import TP
from streamapp.transport.kafka import fetched as fetched_module
from streamapp.transport.kafka import runs
from streamapp.transport.kafka.fetched import Fetched
from streamapp.transport.kafka.names import Names

READERS = [
    pytest.param(runs.take_run, id="compiled", marks=needs_message_columns),
    pytest.param(runs.take_run_in_python, id="python"),
]

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


@pytest.mark.parametrize("take_run", READERS)
@given(drawn=MESSAGES, first=st.integers(0, 12), room=st.integers(0, 12))
def test_columns_are_those_of_a_loop(
    take_run: Any, drawn: list[Any], first: int, room: int
) -> None:
    messages = messages_of(drawn)
    fetched = Fetched(Names("my-"))
    queue: Any = Queue(messages[first:])
    with patch.object(fetched_module, "take_run", take_run):
        fetched.add(messages[:first])
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


@needs_message_columns
def test_what_is_no_message_is_refused_and_no_column_is_longer_than_another() -> None:
    good: Any = messages_of([("my-a", 0, None, b"", None, False)])
    columns: Any = array("q"), array("q"), [], [], []
    number: Any = 1
    strange = Message(topic="my-a", partition=0, offset=1, value=number, timestamp=(1, 2))
    for wrong in (object(), strange):
        with pytest.raises(TypeError):
            runs.take_run([*good, wrong], 0, columns)
        assert {*map(len, columns)} == {1}
        for column in columns:
            column.pop()
    unequal: Any = array("q"), array("d"), [], [], []
    with pytest.raises(ValueError, match="equally long"):
        runs.take_run(good, 0, unequal)
    missing: Any = array("q"), None, [], [], []
    with pytest.raises(TypeError, match="missing"):
        runs.take_run(good, 0, missing)
    known = array("q", [7]), array("q", [8])
    for start in (-1, 1, 2):
        with pytest.raises(IndexError):
            runs.take_run(good, start, (*known, [], [], []))
        assert [*map(list, known)] == [[7], [8]]


def test_more_than_a_portion_is_taken_whole() -> None:
    messages = messages_of([("my-a", 0, None, b"", None, False)] * 1_100)
    queue: Any = Queue(list(messages))
    fetched = Fetched(Names("my-"))
    fetched.fill(queue, 1_000)
    [batch] = fetched.batches()
    assert [*batch.offsets] == list(range(1_000))
    assert len(queue.messages) == 100
