"""A source of several topics is what as many sources that are merged are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import PipelineDriver

TIMES = {"a": [1, 12, 25, 100], "b": [2, 13, 26, 101]}


def same(time: int) -> int:
    return time


def topic(app: streamapp.App, *names: str, event_time: Any = same) -> Any:
    return app.topic(*names, value_type=int, event_time=event_time)


def counting(flow: Any) -> None:
    windows = flow.key_by(lambda _: "k").window(streamapp.tumbling("10ms"))
    windows.aggregate(n=streamapp.count()).to(topic="out")


def as_one(app: streamapp.App) -> PipelineDriver:
    counting(app.pipeline("p").source(topic(app, "a", "b")))
    return PipelineDriver(app.pipelines["p"])


def as_two(app: streamapp.App) -> PipelineDriver:
    pipeline = app.pipeline("p")
    counting(pipeline.source(topic(app, "a")).merge(pipeline.source(topic(app, "b"))))
    return PipelineDriver(pipeline)


def counted(driver: PipelineDriver) -> list[tuple[int, int]]:
    found = [json.loads(record.value or b"") for record in driver.records("out")]
    return [(row["start"], row["n"]) for row in found]


def put(driver: PipelineDriver, name: str, times: list[int]) -> None:
    driver.put(name, [str(time).encode() for time in times])


@pytest.mark.parametrize("make", [as_one, as_two])
@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("crashes", [False, True])
def test_topic_that_is_read_second_is_not_late(make: Any, order: str, *, crashes: bool) -> None:
    driver = make(Bench().app())
    for name in order:
        put(driver, name, TIMES[name])
        if crashes:
            driver.commit()
            driver.crash()
    driver.commit()
    assert counted(driver) == [(0, 2), (10, 2), (20, 2)]


@pytest.mark.parametrize("make", [as_one, as_two])
def test_topic_that_is_silent_holds_nobody_up_and_is_late_when_it_comes_back(make: Any) -> None:
    driver = make(Bench().app())
    put(driver, "a", TIMES["a"])
    driver.commit()
    assert counted(driver) == []
    driver.commit(silent_ms=10_000)
    put(driver, "a", [200])
    driver.commit()
    assert counted(driver) == [(0, 1), (10, 1), (20, 1), (100, 1)]
    put(driver, "b", [*TIMES["b"], 205])
    put(driver, "a", [300])
    put(driver, "b", [300])
    driver.commit()
    assert counted(driver)[4:] == [(200, 2)]


def test_topic_that_two_sources_share_goes_to_both() -> None:
    app = Bench().app()
    pipeline = app.pipeline("p")
    both, one = pipeline.source(topic(app, "a", "b")), pipeline.source(topic(app, "a"))
    counting(both.merge(one))
    driver = PipelineDriver(pipeline)
    for name in "ab":
        put(driver, name, TIMES[name])
    driver.commit()
    assert counted(driver) == [(0, 3), (10, 3), (20, 3)]


def test_topic_that_two_sources_share_has_one_event_time() -> None:
    app = Bench().app()
    pipeline = app.pipeline("p")
    other = pipeline.source(topic(app, "b", event_time=abs))
    counting(pipeline.source(topic(app, "a", "b")).merge(other))
    with pytest.raises(ConfigError, match="b is read with two event times"):
        PipelineDriver(pipeline)
