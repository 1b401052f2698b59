"""Names that are made of several: two that come out alike are refused before a record moves."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from support.engine_app import Bench, running, until

import streamapp
from streamapp.engine.declared import claim
from streamapp.errors import ConfigError


async def refused(app: streamapp.App, log: pytest.LogCaptureFixture) -> str:
    """Return what a worker says before it ends with the status of a mistake."""
    with pytest.raises(SystemExit, match="2"):
        async with running(app):
            pass
    with contextlib.suppress(Exception):
        await app.stop()
    return log.text


async def test_topics_between_stages_that_have_one_name_are_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Bench().app()
    app.pipeline("a").source("s").group_by("k", name="b-c").to(topic="o")
    app.pipeline("a-b").source("s").group_by("k", name="c").to(topic="o")
    told = await refused(app, caplog)
    assert "Pipeline a and Pipeline a-b both have topic bench-a-b-c-repartition" in told


async def test_stages_that_have_one_name_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    app = Bench().app()
    app.pipeline("a").source("s").group_by("k").to(topic="o")
    app.pipeline("a-2").source("s").to(topic="o")
    assert "Pipeline a and Pipeline a-2 both have stage a-2" in await refused(app, caplog)


def test_tables_that_have_one_name_are_refused() -> None:
    app = Bench().app()

    def declare(pipeline: str, table: str) -> Any:
        flow = app.pipeline(pipeline).source("s").key_by("k")
        return flow.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count()).to(table=table)

    declare("a", "one")
    app.Table("b-windows")
    with pytest.raises(ConfigError, match="two tables named 'b-windows'"):
        declare("b", "two")


def test_a_name_may_be_claimed_again_by_who_has_it() -> None:
    owners: dict[str, str] = {}
    for owner in ("Agent a", "Agent a"):
        claim(owners, "topic t", owner)
    with pytest.raises(ConfigError, match="Agent a and Pipeline b both have topic t"):
        claim(owners, "topic t", "Pipeline b")


async def test_an_agent_does_not_send_to_the_topic_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    app = bench.app()
    source, seen = app.topic("s", value_type=dict), []

    def declare(agent: str, name: str) -> None:
        @app.agent(source, name=agent)
        async def count(stream: Any) -> None:
            async for value in stream.group_by("k", name=name):
                seen.append((agent, value["k"]))  # noqa: PERF401 - seen one by one

    declare("a", "b-c")
    declare("a-b", "c")
    async with running(app):
        told = "Agent a and Agent a-b both have topic bench-a-b-c-repartition"
        await until(lambda: told in caplog.text)
        bench.send("s", b'{"k":"one"}')
        await until(lambda: bool(seen))
    assert seen == [("a", "one")]
