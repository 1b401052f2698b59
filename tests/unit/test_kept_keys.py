"""Keys that steps keep: those that would not be found again are refused, others are themselves."""

from __future__ import annotations

import enum
import json
import uuid
from typing import Annotated, Any

import pytest
from msgspec import Meta
from support.engine_app import Bench

import streamapp
from streamapp.errors import ConfigError
from streamapp.testing.pipeline_driver import PipelineDriver


class Country(enum.StrEnum):
    FR = "fr"


class Place(streamapp.Record, frozen=True):
    shop: str


def source_of(key_type: Any) -> Any:
    app = Bench().app()
    return app.pipeline("p").source(app.topic("in", event_time="ts", key_type=key_type))


def counted(flow: Any) -> Any:
    return flow.window(streamapp.session("1s")).aggregate(n=streamapp.count())


STEPS = {
    "windows": counted,
    "join": lambda flow: flow.join(flow, before="1s"),
    "as-of": lambda flow: flow.join_as_of(flow),
    "rate-limit": lambda flow: flow.rate_limit(9, by_key=True),
    "dedup": lambda flow: flow.dedup("id", within="1s"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("key_type", [uuid.UUID, Country, Place, dict, tuple[str, uuid.UUID]])
def test_keys_that_come_back_as_something_else_are_refused(step: str, key_type: Any) -> None:
    flow = STEPS[step](source_of(key_type).filter(bool)).to(topic="out")
    with pytest.raises(ConfigError, match=f"{step} cannot keep the keys of .*in.*, which are"):
        flow.pipeline.stages()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "key_type",
    [None, Any, int, float, str | None, tuple[str, int], Annotated[str, Meta(max_length=9)]],
)
def test_keys_that_come_back_as_they_were_are_kept(step: str, key_type: Any) -> None:
    assert STEPS[step](source_of(key_type)).to(topic="out").pipeline.stages()


def test_keys_of_a_topic_that_no_step_keeps_may_be_anything() -> None:
    flow = source_of(Place)
    flow.to(table="latest")
    counted(flow.key_by("id")).to(topic="out")
    assert flow.pipeline.stages()


def test_a_row_has_the_tuple_that_is_its_key_wherever_it_comes_from() -> None:
    flow = source_of(str).group_by(lambda value: (value["user"], value["kind"]))
    rows = counted(flow).to(table="counts")
    rows.group_by(lambda row: row.key[0]).key_by("key").to(topic="out")
    driver = PipelineDriver(flow.pipeline)
    for ts in (0, 5_000):
        value = {"user": "ann", "kind": 1, "ts": ts}
        driver.put("in", [json.dumps(value).encode()], keys=[b"x"])
    driver.commit()
    assert driver.table("counts")["ann", 1, 0].key == ("ann", 1)
    assert [record.key for record in driver.records("out")] == [b"ann,1"]
    assert driver.stats.dead_letters == 0
