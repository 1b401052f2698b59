"""Filters and branches by a text, a function and YAML say the same of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.condition_shop import Order
from support.engine_app import Bench

from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import PipelineDriver


def flow_of(name: str, value_type: Any = Order) -> Any:
    app = Bench().app()
    topic = app.topic("orders", key_type=str, value_type=value_type, event_time="ts")
    return app.pipeline(name).source(topic)


def told(pipeline: Any) -> list[Any]:
    """Return what a pipeline makes of orders: a batch of good ones, and one with a bad one."""
    driver = PipelineDriver(pipeline)
    for start in (0, 100):
        given = [
            b'{"user": "a", "kind": "order", "amount": %d, "price": %d.5, "paid": %b, "ts": %d}'
            % (n % 7, n % 3, [b"true", b"false"][n % 2], 100 * n)
            for n in range(start, start + 100)
        ]
        bad = [b"{"] if start else []  # a batch with one is not read as columns
        driver.put("orders", [*given[:50], *bad, *given[50:]], keys=[b"k"] * (100 + len(bad)))
        driver.commit()
    return [
        *([(r.key, r.value, r.timestamp_ms) for r in driver.records(of)] for of in ("big", "out")),
        driver.stats.dead_letters,
    ]


YAML = """
pipeline: p
source:
  topic: orders
  key: str
  value: support.condition_shop:Order
  event_time: ts
steps:
  - filter: amount > 2 and not paid
  - branch: {big: amount > 4, rest: "true"}
flows:
  a: {from: big, steps: [{key_by: user}, {to: {topic: big}}]}
  b: {from: rest, steps: [{to: {topic: out}}]}
"""


def test_a_text_a_function_and_yaml_say_the_same(tmp_path: Path) -> None:
    made = []
    for condition, big, rest in [
        ("amount > 2 and not paid", "amount > 4", "true"),
        (lambda v: v.amount > 2 and not v.paid, lambda v: v.amount > 4, lambda _: True),
        (lambda v: v.amount > 2, "amount > 4 and not paid", lambda v: v.amount <= 4 and not v.paid),
    ]:
        flow = flow_of("p")
        flows = flow.filter(condition).branch(big=big, rest=rest)
        flows["big"].key_by("user").to(topic="big")
        flows["rest"].to(topic="out")
        made.append(told(flow.pipeline))
    (tmp_path / "p.yaml").write_text(YAML)
    (pipeline,) = Bench().app().load_pipelines(tmp_path)
    made.append(told(pipeline))
    assert made[0] == made[1] == made[2] == made[3]
    big_orders, others, letters = made[0]
    assert (len(big_orders), len(others), letters) == (28, 29, 1)


def test_fields_of_values_without_a_type_are_looked_for() -> None:
    flow = flow_of("p", None)
    flow.filter("amount > 2 and coalesce(note, 'x') == 'x'").to(topic="out")
    big, out, letters = told(flow.pipeline)
    assert (big, len(out), letters) == ([], 113, 1)


MISTAKES = {
    "a field": ("amuont > 0", "column 1: Order has no field amuont. Did you mean amount?"),
    "no expression": ("amount >", "'amount >' is no expression"),
    "what is not allowed": ("print(amount)", "column 1: there is no function print"),
    "nothing": ("", "'' is no expression"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_is_declared(mistake: str) -> None:
    text, why = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        flow_of("p").filter(text)
    assert str(caught.value).startswith(f"Pipeline p: filter: {text!r}")
    assert why in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        flow_of("p").branch(big="amount > 1", small=text)
    assert str(caught.value).startswith(f"Pipeline p: branch small: {text!r}")
    assert why in str(caught.value)


@pytest.mark.parametrize("before", ["", "x: paid, "])
def test_what_must_be_awaited_is_refused_in_any_branch(tmp_path: Path, before: str) -> None:
    branch = f"{{{before}a: 'support.condition_shop:asks'}}"
    (tmp_path / "p.yaml").write_text(YAML.replace('{big: amount > 4, rest: "true"}', branch))
    with pytest.raises(ConfigError, match="cannot await"):
        Bench().app().load_pipelines(tmp_path)
