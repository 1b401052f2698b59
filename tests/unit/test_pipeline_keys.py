"""Records without a key: what needs none takes them, what keeps state by key refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench

import streamapp
from streamapp.testing.pipeline_driver import PipelineDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamapp.pipelines.flow import Flow


def driver_of(declare: Callable[[Flow], Any]) -> PipelineDriver:
    app = Bench().app()
    declare(app.pipeline("p").source(app.topic("in")))
    return PipelineDriver(app.pipelines["p"])


def test_topic_gets_records_with_and_without_keys() -> None:
    driver = driver_of(lambda flow: flow.filter(lambda n: n > 1).map(str).to(topic="out"))
    driver.put("in", [b"1", b"2", b"3"], keys=[None, None, b"k"])
    driver.commit()
    assert [(each.key, each.value) for each in driver.records("out")] == [
        (None, b"2"),
        (b"k", b"3"),
    ]
    assert driver.stats.dead_letters == 0


@pytest.mark.parametrize(
    "declare",
    [lambda flow: flow.rate_limit(9), lambda flow: flow.buffer(9, rate=9)],
    ids=["rate_limit", "buffer"],
)
def test_a_pace_for_all_needs_no_key(declare: Callable[[Flow], Flow]) -> None:
    driver = driver_of(lambda flow: declare(flow).to(topic="out"))
    driver.put("in", [b"1", b"2"], keys=[None, b"k"])
    driver.commit()
    assert [(each.key, each.value) for each in driver.records("out")] == [
        (None, b"1"),
        (b"k", b"2"),
    ]
    assert driver.stats.dead_letters == 0


@pytest.mark.parametrize(
    "declare",
    [
        lambda flow: flow.to(table="t"),
        lambda flow: flow.rate_limit(9, by_key=True).to(topic="out"),
        lambda flow: (
            flow.window(streamapp.count_window(1)).aggregate(n=streamapp.count()).to(topic="out")
        ),
    ],
)
def test_state_by_key_needs_one(declare: Callable[[Flow], Any]) -> None:
    driver = driver_of(declare)
    driver.put("in", [b"1", b"2"], keys=[None, b"k"])
    driver.commit()
    assert driver.stats.dead_letters == 1


class Id(streamapp.Record):
    number: int


def keyed(declare: Callable[[Flow], Any], partitions: int = 1, **keys: Any) -> PipelineDriver:
    app = Bench().app(topic_partitions=partitions)
    declare(app.pipeline("p").source(app.topic("in", **keys)))
    driver = PipelineDriver(app.pipelines["p"], partitions=partitions)
    driver.put("in", [b"1", b"2"], keys=[b'{"number":7}', b'{"number":8}'])
    driver.commit()
    return driver


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_record_as_key_goes_on_as_its_json(partitions: int) -> None:
    driver = keyed(lambda flow: flow.to(topic="out"), partitions, key_type=Id)
    keys = [each.key for each in driver.records("out")]
    assert sorted(map(str, keys)) == ["b'{\"number\":7}'", "b'{\"number\":8}'"]


@pytest.mark.parametrize(
    "declare",
    [
        lambda flow: flow.window(streamapp.session("1s")).aggregate(n=streamapp.count()),
        lambda flow: flow.rate_limit(9, by_key=True),
    ],
    ids=["session", "rate_limit"],
)
def test_a_key_that_no_state_can_keep_is_refused(declare: Callable[[Flow], Flow]) -> None:
    driver = keyed(lambda flow: declare(flow).to(topic="out"), key_serializer="json")
    causes = [dict(each.headers)["dead-letter-cause"] for each in driver.records("dead-letters")]
    assert len(causes) == 2
    assert causes[0].startswith(
        b"InputError: A key cannot be {'number': 7} (dict). Give the record"
    )


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_record_as_key_finds_the_row_of_a_table(partitions: int) -> None:
    app = Bench().app(topic_partitions=partitions)
    users = app.Table("users", key_type=Id, value_type=str)
    flow = app.pipeline("p").source(app.topic("in", key_type=Id))
    flow.join_table(users, kind="left", combine=lambda n, row: [n, row]).to(topic="out")
    driver = PipelineDriver(app.pipelines["p"], partitions=partitions)
    driver.fill("users", [(Id(7), "ann")], partition=partitions - 1)
    driver.commit()
    driver.crash()
    driver.put(
        "in", [b"1", b"2"], keys=[b'{"number":7}', b'{"number":8}'], partition=partitions - 1
    )
    driver.commit()
    assert [each.value for each in driver.records("out")] == [b'[1,"ann"]', b"[2,null]"]
