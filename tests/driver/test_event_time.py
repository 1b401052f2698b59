"""Workers over topics whose records say themselves when they happened."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp.core.batch import TP
from streamapp.core.positions import parse_progress
from streamapp.core.times import NEVER_MS
from streamapp.engine.chunk_feed import ChunkFeed
from streamapp.engine.policy import ErrorPolicy
from streamapp.errors import ConfigError

if TYPE_CHECKING:
    from streamapp.engine.feed import Feed

P0 = TP("in", 0)
YEAR_10000_MS = 253_402_300_800_000


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Reading(streamapp.Record):
    ts: int
    value: int = 0


class Dated(streamapp.Record):
    at: datetime


def feed_of(app: streamapp.App, name: str) -> Feed:
    return next(feed for feed in app.engine.subscriptions if feed.name == name)


def stamps(bench: Bench, topic: str) -> list[int]:
    """Return the timestamps of a topic's records, as the broker has them."""
    if topic not in bench.broker.topics():
        return []
    reader = bench.broker.reader()
    reader.assign({TP(topic, 0): 0})
    found = [time for batch in reader.poll(0, 100) for time in batch.timestamps]
    reader.close()
    return found


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"value_type": Reading, "event_time": "ts"}, {"ts": 7_000}),
        ({"value_type": Reading, "event_time": Reading.ts}, {"ts": 7_000}),
        ({"event_time": "ts"}, {"ts": 7_000}),
        ({"event_time": "ts", "time_unit": "s"}, {"ts": 7}),
        ({"event_time": "ts"}, {"ts": "1970-01-01T01:00:07+01:00"}),
        ({"value_type": Dated, "event_time": "at"}, {"at": "1970-01-01T00:00:07Z"}),
        ({"value_type": int, "event_time": lambda value: value * 1_000}, 7),
    ],
    ids=["record", "descriptor", "document", "seconds", "text", "date", "function"],
)
async def test_event_has_the_time_that_its_value_tells(
    bench: Bench, options: dict[str, Any], sent: object, concurrency: int
) -> None:
    app = bench.app()
    out = app.topic("out")
    seen: list[tuple[int, float]] = []

    @app.agent(app.topic("in", **options), concurrency=concurrency)
    async def pass_on(stream: Any) -> None:
        async for event in stream.events():
            seen.append((event.event_time_ms, event.message.timestamp))
            await out.send(value=1)

    async with running(app):
        put(bench, "in", (None, sent), timestamp_ms=1_000)
        await until(lambda: stamps(bench, "out") == [7_000])
    assert seen == [(7_000, 1.0)]


@pytest.mark.parametrize("field", [None, "ts"])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_record_of_the_far_future_moves_nothing(
    bench: Bench, field: str | None, concurrency: int
) -> None:
    app = bench.app()
    seen: set[int] = set()

    @app.agent(
        app.topic("in", value_type=Reading, event_time=field, out_of_order="1s"),
        name="read",
        concurrency=concurrency,
    )
    async def read(stream: Any) -> None:
        async for reading in stream:
            seen.add(reading.ts)

    async with running(app):
        for ts in (5_000, YEAR_10000_MS, 6_000):
            put(bench, "in", (None, {"ts": ts}), timestamp_ms=ts if field is None else 1)
        await until(lambda: bench.position("in") == 3)
        feed = feed_of(app, "read")
        assert (feed.time(P0), feed.headway(P0).watermark_ms) == (6_000, 4_999)
        assert feed.stats.from_the_future == 1
        assert feed.stats.retries == 0
    assert seen == {5_000, 6_000}
    assert values(bench, "bench-dead-letters") == [{"ts": YEAR_10000_MS}]
    assert parse_progress(*bench.broker.committed("bench", [P0])[P0]).time_ms == 6_000


async def test_record_without_a_time_meets_the_policy(bench: Bench) -> None:
    app = bench.app()
    seen: list[int] = []

    @app.agent(app.topic("in", event_time="ts"), on_error="skip", name="read")
    async def read(stream: Any) -> None:
        async for group in stream.take(10, within=0.01):
            seen.extend(value["ts"] for value in group)

    async with running(app):
        put(bench, "in", *((None, {"ts": ts}) for ts in (1, True, 2, "2024-01-01", 3)), (None, 4))
        await until(lambda: bench.position("in") == 6)
        assert feed_of(app, "read").stats.skipped == 3
        assert feed_of(app, "read").time(P0) == 3
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_restart_keeps_the_time_of_an_agent_that_is_ahead(
    bench: Bench, concurrency: int
) -> None:
    def make() -> streamapp.App:
        app = bench.app()
        topic = app.topic("in", value_type=Reading, event_time="ts")

        @app.agent(topic, name="ahead", concurrency=concurrency)
        async def ahead(stream: Any) -> None:
            async for _ in stream:
                pass

        @app.agent(topic, name="behind", on_error="stop", concurrency=concurrency)
        async def behind(stream: Any) -> None:
            async for reading in stream:
                if reading.value:
                    raise ValueError(reading)

        return app

    async with running(make()) as app:
        pairs = ((10, 0), (20, 1), (90, 0), (30, 0))
        put(bench, "in", *((None, {"ts": ts, "value": value}) for ts, value in pairs))
        await until(lambda: bench.position("in") == 1)
        await until(lambda: feed_of(app, "ahead").position(P0) == 4)
    async with running(make()) as app:
        assert feed_of(app, "ahead").position(P0) == 4
        assert feed_of(app, "ahead").time(P0) == 90
        assert feed_of(app, "ahead").headway(P0).watermark_ms == 89
        assert feed_of(app, "behind").time(P0) == 10
        put(bench, "in", (None, {"ts": 40}))
        await until(lambda: feed_of(app, "ahead").position(P0) == 5)
        assert feed_of(app, "ahead").time(P0) == 90


class NotingFeed(ChunkFeed):
    """A feed that has something to say about each partition."""

    begun: tuple[int, int, str] | None = None
    words = ""

    def start(self, tp: TP, offset: int, time_ms: int, note: str = "") -> None:
        super().start(tp, offset, time_ms, note)
        self.begun = (offset, time_ms, note)

    def note(self, tp: TP) -> str:
        return self.words if tp == P0 else ""


async def test_note_of_a_feed_comes_back_and_alone_makes_a_commit(bench: Bench) -> None:
    def make() -> tuple[streamapp.App, NotingFeed]:
        app = bench.app()

        @app.agent(app.topic("in", value_type=int))
        async def read(stream: Any) -> None:
            async for _ in stream:
                pass

        topic = app.topic("in", value_type=int)
        feed = app.engine.subscriptions.add(
            "noter", ("in",), topic.decode_batch, ErrorPolicy(), NotingFeed
        )
        return app, feed

    app, feed = make()
    async with running(app):
        assert feed.begun == (0, NEVER_MS, "")
        for words in ("one", "two"):
            feed.words = words
            await until(
                lambda: (
                    P0 in (at := bench.broker.committed("bench", [P0]))
                    and parse_progress(*at[P0]).place_of("noter").note == feed.words
                )
            )
    app, feed = make()
    async with running(app):
        assert feed.begun == (0, NEVER_MS, "two")


async def test_rows_expire_by_the_time_that_values_tell(bench: Bench) -> None:
    app = bench.app()
    latest = app.Table("latest", ttl="1s")
    seen: list[tuple[str, bool]] = []

    @app.agent(app.topic("in", key_type=str, value_type=Reading, event_time="ts"))
    async def keep(stream: Any) -> None:
        async for key, reading in stream.items():
            seen.append((key, "a" in latest))
            latest[key] = reading.ts

    async with running(app):
        for key, ts in (("a", 1_000), ("b", 1_999)):
            put(bench, "in", (key, {"ts": ts}), timestamp_ms=77)
        await until(lambda: bench.position("in") == 2)
        assert dict(latest.items()) == {"a": 1_000, "b": 1_999}
        put(bench, "in", ("c", {"ts": 2_000}), timestamp_ms=77)
        await until(lambda: bench.position("in") == 3)
        assert dict(latest.items()) == {"b": 1_999, "c": 2_000}
        # From the changelog it goes a little later.
        put(bench, "in", ("d", {"ts": 2_100}), timestamp_ms=77)
        await until(lambda: None in bench.rows("latest").values())
    assert seen == [("a", False), ("b", True), ("c", False), ("d", False)]


@pytest.mark.parametrize(("idle_after", "time_ms"), [(None, 10), ("50ms", 9_000)])
async def test_time_of_a_table_is_that_of_its_slowest_source_that_is_not_idle(
    bench: Bench, idle_after: str | None, time_ms: int
) -> None:
    app = bench.app()
    table = app.Table("t", ttl="1h")

    for name in ("in", "other"):
        topic = app.topic(name, value_type=Reading, event_time="ts", idle_after=idle_after)

        @app.agent(topic, name=name)
        async def read(stream: Any) -> None:
            async for reading in stream:
                table["k"] = reading.ts

    async with running(app):
        put(bench, "other", (None, {"ts": 10}))
        await until(lambda: bench.position("other") == 1)
        put(bench, "in", (None, {"ts": 9_000}))
        await until(lambda: bench.position("in") == 1)
        await until(lambda: table.now_ms(0) == time_ms)
        assert feed_of(app, "other").headway(TP("other", 0)).is_idle is (idle_after is not None)
        if idle_after is not None:
            # It comes back with an old record: what was said stays.
            put(bench, "other", (None, {"ts": 20}))
            await until(lambda: bench.position("other") == 2)
            assert table.now_ms(0) == time_ms


async def test_time_of_a_table_goes_on_where_it_was_after_a_restart(bench: Bench) -> None:
    def make() -> tuple[streamapp.App, streamapp.Table]:
        app = bench.app()
        table = app.Table("t", ttl="1h")
        for name in ("in", "silent"):
            topic = app.topic(name, value_type=Reading, event_time="ts", idle_after="50ms")

            @app.agent(topic, name=name)
            async def read(stream: Any) -> None:
                async for reading in stream:
                    table["k"] = reading.ts

        return app, table

    app, table = make()
    async with running(app):
        put(bench, "in", (None, {"ts": 9_000}))
        await until(lambda: table.now_ms(0) == 9_000)
        await until(lambda: bench.position("in") == 1)
    app, table = make()
    async with running(app):
        await until(lambda: table.now_ms(0) == 9_000)


async def test_silent_partition_goes_on_with_the_clock_where_that_is_declared(
    bench: Bench,
) -> None:
    app = bench.app()
    options: dict[str, Any] = {"idle_after": "20ms", "advance_on_idle": "wallclock"}

    @app.agent(app.topic("in", value_type=Reading, event_time="ts", **options), name="read")
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with running(app):
        put(bench, "in", (None, {"ts": 1_000}))
        feed = feed_of(app, "read")
        await until(lambda: feed.headway(P0).watermark_ms >= 1_019)
        assert not feed.headway(P0).is_idle
        # The time of events does not: a replay must judge rows alike.
        assert feed.time(P0) == 1_000


async def test_regrouped_records_keep_their_time(bench: Bench) -> None:
    app = bench.app()
    out = app.topic("out")

    @app.agent(app.topic("in", value_type=Reading, event_time="ts", out_of_order="3s"), name="by")
    async def pass_on(stream: Any) -> None:
        async for reading in stream.group_by("value"):
            await out.send(value=reading.ts)

    async with running(app):
        put(bench, "in", (None, {"ts": 7_000}), (None, {"ts": 5_000}), timestamp_ms=1)
        await until(lambda: stamps(bench, "out") == [7_000, 5_000])
        (regrouped,) = (f for f in app.engine.subscriptions if "in" not in f.plan.topics)
        assert regrouped.plan.event_time.field is None
        assert regrouped.plan.event_time.bound_ms == 3_000


def test_topics_made_of_a_topic_tell_time_alike(bench: Bench) -> None:
    topic = bench.app().topic("in", event_time="ts", out_of_order="5s", idle_after=None)
    for made in (topic.derive_topic(value_type=int), topic.clone(is_iterator=True)):
        assert made.event_time is topic.event_time
    assert topic.event_time.bound_ms == 5_000


def test_wrong_option_of_a_topic_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="out_of_order: 'soon' is not a duration"):
        bench.app().topic("in", out_of_order="soon")
    with pytest.raises(TypeError, match="evnt_time"):
        bench.app().topic("in", evnt_time="ts")
