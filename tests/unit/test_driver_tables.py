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
