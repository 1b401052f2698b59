"""Pairs of a join have the values of both sides, also behind a topic and out of the state."""

from __future__ import annotations

from typing import Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver


class Order(streamapp.Record):
    user: str
    ts: int


class Payment(streamapp.Record):
    paid: float
    ts: int


JOINS = {
    "join": lambda orders, payments: orders.join(payments, before="5s", kind="left"),
    "as-of": lambda orders, payments: orders.join_as_of(payments, kind="left"),
}


@pytest.mark.parametrize("join", JOINS)
def test_sides_of_a_pair_are_what_they_were(join: str) -> None:
    app = Bench().app()
    pipeline = app.pipeline("p")
    orders, payments = (
        pipeline.source(app.topic(name, key_type=str, value_type=of, event_time="ts"))
        for name, of in (("orders", Order), ("payments", Payment))
    )
    pairs = JOINS[join](orders, payments)
    seen: list[tuple[Any, Any]] = []
    behind = pairs.group_by(lambda pair: pair.left.user)
    behind.peek(lambda pair: seen.append((pair.left, pair.right))).to(topic="out")
    pairs.join_as_of(pairs, combine=lambda one, _: one.left.user).to(topic="users")
    driver = PipelineDriver(pipeline)
    driver.put("payments", [b'{"paid": 2.5, "ts": 0}'], keys=[b"a"])
    driver.put(
        "orders", [b'{"user": "ann", "ts": %d}' % ts for ts in (1, 9_000)], keys=[b"a", b"b"]
    )
    driver.commit()
    driver.crash()
    for name, value in (
        ("payments", b'{"paid": 1, "ts": 20000}'),
        ("orders", b'{"user": "x", "ts": 20000}'),
    ):
        driver.put(name, [value], keys=[b"z"])
    driver.commit()
    of_ann = [pair for pair in seen if pair[0].user == "ann"]
    assert of_ann == [(Order("ann", 1), Payment(2.5, 0)), (Order("ann", 9_000), None)]
    users = [record.value for record in driver.records("users")]
    assert users.count(b'"ann"') == 2
