"""The topics of a driven pipeline, and the changelog records of its commits."""

from __future__ import annotations

import pytest

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.serde.ordered_keys import encode_key
from streamapp.testing.log import Log
from streamapp.testing.pipeline_driver import PipelineDriver

_TP = TP("t", 1)


def test_records_come_out_as_they_went_in() -> None:
    log = Log(_TP)
    log.put([b"1", None], None, [5, 6])
    log.extend([OutRecord(_TP, b"k", b"2", 7, (("h", b"x"),))])
    log.put([b"3"], [b"l"], None)
    assert log.records() == [
        OutRecord(_TP, None, b"1", 5),
        OutRecord(_TP, None, None, 6),
        OutRecord(_TP, b"k", b"2", 7, (("h", b"x"),)),
        OutRecord(_TP, b"l", b"3", 0),
    ]
    batch = log.since(1)
    assert batch is not None
    assert [*batch.offsets] == [1, 2, 3]
    assert batch.values == [None, b"2", b"3"]
    assert batch.keys == [None, b"k", b"l"]
    assert batch.timestamps == [6, 7, 0]
    assert batch.headers == [(), (("h", b"x"),), ()]
    assert batch.next_offset == 4
    assert log.since(4) is None


def test_columns_are_of_one_length() -> None:
    with pytest.raises(ValueError, match="as many as the values"):
        Log(_TP).put([b"1", b"2"], [b"k"], None)


def test_a_commit_tells_what_it_wrote_to_changelogs() -> None:
    app = streamapp.App("changes", broker="memory://changes", store="memory://")
    pipeline = app.pipeline("p")
    (
        pipeline.source(app.topic("in", event_time="ts"))
        .key_by("user")
        .window(streamapp.tumbling("1s"))
        .aggregate(n=streamapp.count())
        .to(table="results")
    )
    driver = PipelineDriver(pipeline)
    driver.put("in", [b'{"user":"a","ts":1}', b'{"user":"a","ts":2}', b'{"user":"b","ts":3}'])
    driver.commit()
    assert [record.tp.topic for record in driver.changelog] == ["p-windows"] * 2
    driver.put("in", [b'{"user":"a","ts":5000}'])
    driver.commit()
    results = {r.key: r.value for r in driver.changelog if r.tp.topic == "results"}
    assert results.keys() == {encode_key(("a", 0)), encode_key(("b", 0))}
    gone = [r for r in driver.changelog if r.tp.topic == "p-windows" and r.value is None]
    assert len(gone) == 2
    driver.commit()
    assert driver.changelog == []
