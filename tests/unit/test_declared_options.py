"""Options of declarations that nobody knows are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest

import streamapp
from streamapp.errors import ConfigError


def app() -> streamapp.App:
    return streamapp.App("shop", broker="memory://declared", store="memory://")


async def handler(stream: Any) -> None:
    """Read."""
    async for _ in stream:
        pass


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("concurency", "'concurrency'"),
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
