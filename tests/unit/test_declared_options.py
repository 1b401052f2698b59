"""Options of declarations that nobody knows are refused where they are written."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.engine_app import Bench, running

import streamapp
from streamapp.errors import ConfigError
from streamapp.transport.broker import TopicSpec


def app() -> streamapp.App:
    return streamapp.App("shop", broker="memory://declared", store="memory://")


async def handler(stream: Any) -> None:
    """Read."""
    async for _ in stream:
        pass


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("concurrenc", "'concurrency'"),
        ("on_eror", "'on_error'"),
        ("sinks", "'sink'"),
        ("value_tpye", "'value_type'"),
        ("nothing_like_it", "docs/agents.md"),
    ],
)
@pytest.mark.parametrize("channel", [None, "orders", "a topic"])
def test_agent_refuses_what_it_does_not_know(wrong: str, meant: str, channel: str | None) -> None:
    shop = app()
    given = shop.topic("orders") if channel == "a topic" else channel
    with pytest.raises(ConfigError, match=f"Agent n has no setting '{wrong}'.*{meant}"):
        shop.agent(given, name="n", **{wrong: 5})(handler)


def test_agent_takes_what_faust_documents() -> None:
    shop = app()
    agent = shop.agent(
        "orders",
        name="n",
        concurrency=2,
        supervisor_strategy=None,
        sink=[],
        isolated_partitions=False,
        key_type=str,
        value_type=str,
        schema=None,
        help="Told.",
        internal=True,
        use_reply_headers=True,
        on_error="skip",
        partitions=3,
        out_of_order="5s",
    )(handler)
    assert (agent.concurrency, agent.help, agent.channel.partitions) == (2, "Told.", 3)
    assert shop.agent("other", name="m")(handler).help == "Read."


@pytest.mark.parametrize("broker", ["/a/b", Path("/a/b")])
def test_broker_that_is_a_path(broker: object) -> None:
    with pytest.raises(ConfigError, match=r"'/a/b' has no scheme. Did you mean sqlite:///a/b\?"):
        streamapp.App("shop", broker=broker)


def test_broker_that_is_a_path_from_here() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean sqlite:///path/to/bus/x\?"):
        streamapp.App("shop", broker="./bus/x")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retention": "xx"}, "Topic orders: retention: 'xx' is not a duration. Write"),
        ({"retention": -1}, "Topic orders: retention: -1 is a negative duration"),
        (
            {"config": {"cleanup.polic": "compact"}},
            "Topic orders: config has no setting 'cleanup.polic'. Did you mean 'cleanup.policy'",
        ),
        (
            {"config": {"cleanup.policy": "compakt"}},
            "Topic orders: config: cleanup.policy='compakt'. Write \"delete\"",
        ),
        ({"config": {"retention.ms": "1d"}}, "config: retention.ms='1d'. It must be a whole"),
        ({"config": {"xyz": 1}}, "Supported: cleanup.policy, retention.ms, retention.bytes"),
    ],
)
def test_topic_that_could_not_be_made(options: dict[str, Any], expected: str) -> None:
    shop = app()
    with pytest.raises(ConfigError, match=re.escape(expected)):
        shop.topic("orders", **options)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        _ = shop.agent("orders", name="n", **options)(handler).channel


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, TopicSpec("orders", 2)),
        ({"retention": "1h"}, TopicSpec("orders", 2, retention_ms=3_600_000)),
        ({"retention": 1.5}, TopicSpec("orders", 2, retention_ms=1_500)),
        ({"retention": timedelta(days=1)}, TopicSpec("orders", 2, retention_ms=86_400_000)),
        ({"compacting": True}, TopicSpec("orders", 2, frozenset({"compact"}), None, None)),
        (
            {"config": {"cleanup.policy": "compact,delete", "retention.bytes": 5}},
            TopicSpec("orders", 2, frozenset({"compact", "delete"}), retention_bytes=5),
        ),
        (
            {"retention": "1h", "config": {"retention.ms": -1}},
            TopicSpec("orders", 2, retention_ms=None),
        ),
    ],
)
async def test_topic_is_made_as_declared(options: dict[str, Any], spec: TopicSpec) -> None:
    bench = Bench()
    app = bench.app(topic_partitions=2)
    app.agent(app.topic("orders", **options), name="n")(handler)
    async with running(app):
        assert bench.broker.topics()["orders"].spec == spec
