"""The tables of a pipeline in a driver are those of a worker: by event time, whenever that is."""

from __future__ import annotations

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver

SECOND = 1_000


@pytest.mark.parametrize("since_1970", [0, -(10**12), 10**12])
def test_rows_live_and_close_by_event_time(since_1970: int) -> None:
    app = Bench().app()
    flow = app.pipeline("p").source(app.topic("in", event_time="ts", key_type=str))
    windows = flow.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count())
    driver = PipelineDriver(windows.to(table="counts", keep="5s").pipeline)

    def put(seconds: float) -> None:
        ts = since_1970 + int(seconds * SECOND)
        driver.put("in", [b'{"ts": %d}' % ts], keys=[b"a"])
        driver.commit()

    def starts() -> list[float]:
        return [(start - since_1970) / SECOND for _, start in driver.table("counts")]

    for seconds in (0, 1, 2.5):
        put(seconds)
    assert starts() == [0, 1]
    ((_, window),) = driver.table("p-windows").items()
    assert (window["n"], window["is_final"]) == (1, False)
    put(6.5)
    assert starts() == [1, 2]


def test_windows_of_two_flows_that_look_alike_are_windows_where_they_meet() -> None:
    app = Bench().app()
    flow = app.pipeline("p").source(app.topic("in", event_time="ts", key_type=str))
    branches = flow.branch(early=lambda value: value["ts"] < SECOND, later=lambda _: True)
    early, later = (
        branch.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count())
        for branch in branches.values()
    )
    merged = early.merge(later).to(table="counts")
    merged.group_by("start").to(topic="out")
    driver = PipelineDriver(merged.pipeline)
    driver.put("in", [b'{"ts": %d}' % ts for ts in (0, 1_000, 5_000)], keys=[b"a"] * 3)
    driver.commit()
    assert [*driver.table("counts")] == [("a", 0), ("a", 1_000)]
    assert [record.key for record in driver.records("out")] == [b"0", b"1000"]
