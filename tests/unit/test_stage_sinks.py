"""Where rows leave a stage: many at once as one by one, and those of a record all or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamapp
from streamapp.core.batch import OutRecord
from streamapp.core.rows import Rows
from streamapp.engine import places
from streamapp.engine.places import Places
from streamapp.engine.stage_sinks import Check, RegroupSink, TopicSink, Way
from streamapp.errors import EncodeError
from streamapp.operators.operator import RowError
from streamapp.pipelines.codecs import StateCodec
from streamapp.serde.codecs import key_encoder, value_encoder
from streamapp.serde.strict_json import json_lines, json_writer
from streamapp.transport.partitioner import partition_for_key

ANYWHERE = 3


class Sale(streamapp.Record):
    user: str
    amount: float | None


def topic_sink(sent: list[OutRecord], check: Check = lambda _: None, **options: Any) -> TopicSink:
    app = streamapp.App("sinks", broker="memory://sinks", store="memory://")
    node: Any = SimpleNamespace(topic=app.topic("out", **options), only=frozenset())
    return TopicSink(node, 4, lambda *_: ANYWHERE, Way(sent.extend, check))


def rows_of(keys: list[Any], values: list[Any], origins: list[int]) -> Rows:
    numbers = range(len(keys))
    return Rows(keys, [*numbers], values, [n * 10 for n in numbers], origins)


keys = st.sampled_from(["a", "b", "", "ü", b"a", None, 7, ("a", 1)])
values = st.sampled_from([Sale("a", 1.5), Sale("b", None), None, {"n": 1}, b"raw", "text"])


@given(st.lists(st.tuples(keys, values), max_size=30))
def test_rows_become_the_records_that_each_of_them_becomes(given: list[tuple[Any, Any]]) -> None:
    together: list[OutRecord] = []
    singly: list[OutRecord] = []
    rows = rows_of([key for key, _ in given], [value for _, value in given], [*range(len(given))])
    topic_sink(together).write(rows)
    for n in range(len(given)):
        topic_sink(singly).write(rows.part(n, n + 1))
    assert together == singly
    for (key, value), record in zip(given, together, strict=True):
        assert (record.key is None) == (key is None)
        expected = ANYWHERE if record.key is None else partition_for_key(record.key, 4)
        assert record.tp == ("out", expected)
        assert (record.value is None) == (value is None)


def test_rows_of_a_record_are_written_all_or_not_at_all() -> None:
    bad = Sale("a", float("nan"))
    good = Sale("a", 1.0)
    for number in range(2):
        sent: list[OutRecord] = []
        sinks = [
            topic_sink(sent, value_type=Sale),
            RegroupSink("out", StateCodec(Sale), 4, 0, Way(sent.extend)),
        ]
        rows = rows_of(["k"] * 5, [good, good, good, bad, good], [5, 6, 7, 7, 8])
        with pytest.raises(RowError) as failed:
            sinks[number].write(rows)
        assert failed.value.origin == 7
        assert isinstance(failed.value.__cause__, EncodeError)
        assert [record.timestamp_ms for record in sent] == [0, 1]


def test_rows_between_stages_tell_each_partition_of_the_watermark_once() -> None:
    sent: list[OutRecord] = []
    sink = RegroupSink("out", StateCodec(), 2, 0, Way(sent.extend))
    rows = rows_of(["a"] * 4, [1, 2, 3, 4], [0, 1, 2, 3])
    sink.write(Rows(rows.keys, rows.times, rows.values, [5, 5, 6, 6], rows.origins))
    assert [bool(record.headers) for record in sent] == [True, False, True, False]


def test_what_the_broker_would_refuse_is_not_sent_and_its_record_is_told() -> None:
    def check(records: Sequence[OutRecord]) -> None:
        if any(record.value == b"2" for record in records):
            msg = "too much"
            raise EncodeError(msg)

    sent: list[OutRecord] = []
    for sink in (
        topic_sink(sent, check),
        RegroupSink("out", StateCodec(), 2, 0, Way(sent.extend, check)),
    ):
        sent.clear()
        with pytest.raises(RowError) as failed:
            sink.write(rows_of(["a"] * 4, [1, 2, 3, 4], [0, 5, 6, 7]))
        assert failed.value.origin == 5
        assert [record.value for record in sent] == [b"1"]


class Framed(msgspec.Struct):
    body: msgspec.Raw


@given(
    st.lists(
        st.sampled_from([Sale("a", 1.0), Sale("\n", None), {"null": [1, None]}, "null", 5])
        | st.builds(Framed, st.sampled_from([msgspec.Raw(b"[1]"), msgspec.Raw(b"[\n1\n]")]))
    )
)
def test_many_values_have_the_json_of_each(given: list[Any]) -> None:
    assert json_lines(given) == [*map(json_writer(None), given)]


@pytest.mark.parametrize("make", [key_encoder, value_encoder])
@given(given=st.lists(st.sampled_from(["a", "ü", 1, True, 1.5, "\ud800", b"a", None])))
def test_many_are_encoded_as_one_by_one(make: Any, given: list[Any]) -> None:
    for declared, codec in [
        (None, "json"),
        (str, "json"),
        (int, "json"),
        (str, "str"),
        (None, "raw"),
    ]:
        encode = make(declared, codec)
        assert outcome(lambda: encode.many(given)) == outcome(lambda: [*map(encode, given)])  # noqa: B023 - called at once


def outcome(run: Any) -> Any:
    try:
        return run()
    except EncodeError as exc:
        return str(exc)


@given(st.integers(1, 3), st.lists(st.lists(st.integers(0, 9), max_size=9), max_size=9))
def test_places_are_the_same_when_most_are_forgotten(
    partitions: int, many: list[list[int]]
) -> None:
    sink = Places("out", partitions, lambda keys: [b"%d" % key for key in keys])
    with patch.object(places, "_MOST", 5):
        for keys in many:
            tps, raws = sink.of(keys)
            assert [*raws] == [b"%d" % key for key in keys]
            assert [*tps] == [("out", partition_for_key(raw, partitions)) for raw in raws]
