"""Joins whose results go on: what comes next gets the values of both flows as what they are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.pipelines.flow import Flow


class Order(streamapp.Record):
    user: str
    amount: float
    ts: int


def driven(declare: Callable[[list[Flow]], Any]) -> PipelineDriver:
    """Return the driver of a pipeline of three topics of orders, ``0`` to ``2``."""
    app = Bench().app()
    topics = [app.topic(str(n), key_type=str, value_type=Order, event_time="ts") for n in range(3)]
    pipeline = app.pipeline("p", on_error="dead_letter")
    declare([pipeline.source(topic) for topic in topics])
    return PipelineDriver(pipeline)


def put(driver: PipelineDriver, topic: int, amount: float, ts: int = 0) -> None:
    value = {"user": "ann", "amount": amount, "ts": ts}
    driver.put(str(topic), [json.dumps(value).encode()], keys=[b"k"])


def results(driver: PipelineDriver) -> list[Any]:
    driver.commit()
    assert driver.records(DEAD_LETTERS) == []
    return [json.loads(record.value or b"") for record in driver.records("out")]


def amounts(pair: Any, third: Any) -> list[float]:
    return [pair.left.amount, pair.right.amount, third.amount]


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("word", ["join", "join_as_of"])
def test_join_of_a_join_is_the_same_after_a_crash(word: str, *, crashes: bool) -> None:
    """A pair came out of the state with dicts in it, so the next function failed."""

    def declare(flows: list[Flow]) -> None:
        pairs = flows[0].join(flows[1], before="1s", after="1s")
        near = {"before": "1s", "after": "1s"} if word == "join" else {}
        getattr(pairs, word)(flows[2], combine=amounts, **near).to(topic="out")

    driver = driven(declare)
    put(driver, 0, 1)
    put(driver, 1, 2)
    driver.commit()
    if crashes:
        driver.crash()
    put(driver, 2, 3)
    for topic in range(3):
        put(driver, topic, 9, ts=99_000)
    assert results(driver)[0] == [1, 2, 3]


def test_pairs_go_through_group_by() -> None:
    def declare(flows: list[Flow]) -> None:
        pairs = flows[0].join(flows[1], after="1s", kind="left")
        named = pairs.group_by(lambda pair: pair.left.user)
        named.map(lambda pair: [pair.left.amount, pair.right and pair.right.amount]).to(topic="out")

    driver = driven(declare)
    put(driver, 0, 1)
    put(driver, 1, 2, ts=1)
    put(driver, 0, 3, ts=5_000)
    put(driver, 0, 4, ts=9_000)
    put(driver, 1, 5, ts=9_000)
    assert results(driver) == [[1, 2], [4, 5], [3, None]]


def test_what_a_join_holds_does_not_depend_on_whether_it_was_read_back() -> None:
    """Without a type, records inside of a dict are dicts in the state: so they are at once."""

    def declare(flows: list[Flow]) -> None:
        inner = flows[0].map(lambda order: {"order": order})
        joined = inner.join(flows[1], after="1s", combine=lambda left, _: left["order"]["amount"])
        joined.to(topic="out")

    driver = driven(declare)
    put(driver, 0, 1)
    put(driver, 1, 2)
    put(driver, 0, 3)
    assert results(driver) == [1, 3]
