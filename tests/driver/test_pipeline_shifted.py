"""Behind steps whose rows have times of their own, results do not depend on batches either."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver


def begun() -> tuple[Any, Any]:
    """Return a pipeline, and what makes its sources."""
    app = Bench().app()
    pipeline = app.pipeline("p")

    def source(name: str) -> Any:
        return pipeline.source(app.topic(name, key_type=str, value_type=dict, event_time="ts"))

    return pipeline, source


def put(driver: PipelineDriver, name: str, times: list[int], size: int, key: bytes = b"k") -> None:
    data = [json.dumps({"ts": ts}).encode() for ts in times]
    for at in range(0, len(data), size):
        part = data[at : at + size]
        driver.put(name, part, keys=[key] * len(part))


def counted(driver: PipelineDriver) -> list[tuple[Any, ...]]:
    driver.commit()
    rows = [json.loads(record.value or b"") for record in driver.records("out")]
    return [(row["start"], row["kind"], row["n"]) for row in rows]


def behind_a_join(size: int) -> list[tuple[Any, ...]]:
    pipeline, source = begun()
    left, right = source("in"), source("in2")
    pairs = left.join(right, after="40ms", before="40ms", combine=lambda _l, _r: {"n": 1})
    windows = pairs.window(streamapp.tumbling("10ms", late="20ms"))
    windows.aggregate(n=streamapp.count()).to(topic="out")
    driver = PipelineDriver(pipeline)
    put(driver, "in2", [25, 50], 2)
    put(driver, "in", [40], 1, b"z")
    put(driver, "in", [2, 3, 4], size)
    put(driver, "in", [900], 1, b"z")
    put(driver, "in2", [900], 1, b"z")
    return counted(driver)


def behind_corrections(size: int) -> list[tuple[Any, ...]]:
    pipeline, source = begun()
    first = source("in").window(streamapp.tumbling("20ms"), on_late="correct")
    rows = first.aggregate(n=streamapp.count()).map(lambda row: {"n": row.n})
    windows = rows.window(streamapp.tumbling("10ms", late="30ms"))
    windows.aggregate(n=streamapp.count()).to(topic="out")
    driver = PipelineDriver(pipeline)
    put(driver, "in", [1, 45, 3, 4, 300], size)
    return counted(driver)


def behind_counts(size: int) -> list[tuple[Any, ...]]:
    pipeline, source = begun()
    first = source("in").window(streamapp.count_window(2)).aggregate(n=streamapp.count())
    windows = first.map(lambda row: {"n": row.n}).window(streamapp.tumbling("10ms", late="30ms"))
    windows.aggregate(n=streamapp.count()).to(topic="out")
    driver = PipelineDriver(pipeline)
    put(driver, "in", [1, 2, 45, 18, 16, 17, 14, 300], size)
    return counted(driver)


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("run", [behind_a_join, behind_corrections, behind_counts])
def test_rows_with_times_of_their_own_fall_due_whatever_the_batch(run: Any, size: int) -> None:
    wanted = run(1)
    assert run(size) == wanted
    assert any(kind == "late" for _, kind, _ in wanted)
