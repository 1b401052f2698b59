"""What functions of an application raise in a pipeline: exactly what is at fault is set aside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver


def driven(build: Any, **options: Any) -> PipelineDriver:
    """Return the driver of a pipeline that keeps dead letters and begins with topic ``in``."""
    app = Bench().app()
    source = {"key_type": str, "value_type": dict, "event_time": "ts", **options}
    pipeline = app.pipeline("p", on_error="dead_letter")
    build(pipeline.source(app.topic("in", **source)))
    return PipelineDriver(pipeline)


def put(driver: PipelineDriver, values: list[Any], size: int = 0) -> None:
    """Put values of one key into topic ``in``, in batches."""
    data = [json.dumps(value).encode() for value in values]
    for at in range(0, len(data), size or len(data)):
        part = data[at : at + (size or len(data))]
        driver.put("in", part, keys=[b"k"] * len(part))
    driver.commit()


def rows(driver: PipelineDriver) -> list[dict[str, Any]]:
    """Return the values of topic ``out``."""
    return [json.loads(record.value or b"null") for record in driver.records("out")]


def first_of(value: dict[str, Any]) -> Any:
    return next(iter(value["xs"]))


XS = [{"xs": [n] if n % 50 else [], "ts": n} for n in range(200)]


@pytest.mark.parametrize("size", [1, 100])
def test_function_that_raises_stop_iteration_loses_its_own_record_alone(size: int) -> None:
    """``map`` took it for the end of the records: it lost those behind it in silence."""

    def build(flow: Any) -> None:
        sums = flow.window(streamapp.tumbling(1)).aggregate(
            s=streamapp.sum(first_of), n=streamapp.count(first_of)
        )
        sums.to(topic="out")

    driver = driven(build)
    put(driver, [*XS, {"xs": [0], "ts": 9_000}], size)
    assert [(row["n"], row["s"]) for row in rows(driver)] == [
        (196, sum(n for n in range(200) if n % 50))
    ]
    assert driver.stats.dead_letters == 4


@pytest.mark.parametrize("size", [1, 100])
def test_key_whose_function_raises_stop_iteration_is_a_bad_record(size: int) -> None:
    driver = driven(lambda flow: flow.key_by(first_of).map(lambda v: v["ts"]).to(topic="out"))
    put(driver, XS, size)
    assert rows(driver) == [n for n in range(200) if n % 50]
    assert driver.stats.dead_letters == 4


def appended(state: list[Any], value: dict[str, Any]) -> list[Any]:
    state.append(value["n"])
    return state


def summed(state: int, value: dict[str, Any]) -> int:
    return state + value["m"]


SPECS = {
    "tumbling": streamapp.tumbling(1),
    "hopping": streamapp.hopping(2, 1),
    "session": streamapp.session(1),
    "sliding": streamapp.sliding(1),
    "count": streamapp.count_window(2),
}


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_record_that_fails_in_one_aggregate_is_in_none(spec: Any, size: int) -> None:
    """The first one has changed its state when the second one fails."""

    def run(values: list[Any]) -> tuple[list[Any], int]:
        driver = driven(
            lambda flow: (
                flow.window(spec)
                .aggregate(
                    all=streamapp.aggregate(list, appended, lambda a, b: a + b, list),
                    sum=streamapp.aggregate(int, summed, lambda a, b: a + b, lambda s: s),
                )
                .to(topic="out")
            )
        )
        put(driver, values, size)
        return rows(driver), driver.stats.dead_letters

    good = [{"n": n, "m": 1, "ts": ts} for n, ts in ((1, 1), (3, 3), (4, 4), (9, 9_000))]
    bad = {"n": 2, "m": "x", "ts": 2}
    assert run([good[0], bad, *good[1:3], {**bad, "ts": 5}, good[3]]) == (run(good)[0], 2)
