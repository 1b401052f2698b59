"""Records of which nothing is left still move event time, wherever a batch ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver


def tumbling(flow: Any) -> Any:
    return flow.window(streamapp.tumbling("10ms")).aggregate(n=streamapp.count())


@pytest.mark.parametrize("size", [1, 2, 7, 30])
@pytest.mark.parametrize("is_grouped", [False, True])
def test_windows_behind_windows_get_what_a_filter_leaves(size: int, *, is_grouped: bool) -> None:
    """The second window is no longer than the first: under a later watermark all would be late."""
    app = Bench().app()
    source = app.topic("in", event_time="ts", key_type=str)
    first = tumbling(app.pipeline("p").source(source).filter(lambda value: value["is_kept"]))
    if is_grouped:
        first = first.map(lambda row: {"k": row.key, "n": row.n}, into=dict[str, Any]).group_by("k")
    tumbling(first).to(table="second")
    driver = PipelineDriver(app.pipelines["p"])
    values: list[bytes | None] = [
        json.dumps({"ts": at, "is_kept": at % 10 == 0}).encode() for at in range(60)
    ]
    for start in range(0, len(values), size):
        part = values[start : start + size]
        driver.put("in", part, keys=[b"ann"] * len(part))
    driver.commit()
    assert {(key, row.n) for key, row in driver.table("second").items()} == {
        (("ann", start), 1) for start in range(0, 50, 10)
    }
