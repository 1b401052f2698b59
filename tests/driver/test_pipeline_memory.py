"""The state of pipelines in memory is bounded by the cache, whatever is open."""

from __future__ import annotations

from support.engine_app import Bench, running, until
from support.idioms import put

import streamapp
from streamapp.transport.broker import TopicSpec

KEYS = 3_000


class Ping(streamapp.Record):
    at: int


async def test_open_windows_beyond_the_cache_are_read_again_and_count_all() -> None:
    bench = Bench()
    app = bench.app(cache_size="64kB")
    source = app.topic("pings", key_type=str, value_type=Ping, event_time="at")
    flow = app.pipeline("seen").source(source).window(streamapp.tumbling("1h"))
    flow.emit("update").aggregate(n=streamapp.count()).to(table="seen")
    bench.broker.create_topic(TopicSpec("pings", 1))
    async with running(app):
        (runner,) = app.engine.pipelines.runners
        for at in (1_000, 2_000):
            put(bench, "pings", *[(f"key-{i}", {"at": at}) for i in range(KEYS)])
            await until(lambda end=KEYS * at // 1_000: bench.position("pings") == end)
            ((_, operator),) = runner.works[0].states
            assert operator.size == 1_000
        assert {row.n for row in app.tables["seen"].values()} == {2}
        assert len(app.tables["seen"]) == KEYS
