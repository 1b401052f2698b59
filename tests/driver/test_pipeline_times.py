"""Watermarks of pipelines where partitions are silent or empty, and times at the edges."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import put, values

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.core.rows import Rows
from streamapp.core.times import NEVER_MS
from streamapp.engine.stage_sinks import RegroupSink, Way
from streamapp.pipelines.codecs import StateCodec
from streamapp.testing.pipeline_driver import DEAD_LETTERS, PipelineDriver
from streamapp.transport.connect import open_broker

if TYPE_CHECKING:
    from pathlib import Path

    from streamapp.core.watermarks import Headway
    from streamapp.transport.broker import Broker

YEAR_10000_MS = 253_402_300_800_000
#: The last time that there is.
LAST_MS = (1 << 62) - 1
#: A time long after what the windows of these tests hold.
TODAY_MS = 1_700_000_000_000


@pytest.fixture
def bench() -> Bench:
    return Bench()


def counting(app: streamapp.App, *, partitions: int = 2, **options: Any) -> streamapp.App:
    """Count by key in windows of a second, behind a ``group_by``."""
    source = app.topic("in", event_time="ts", partitions=partitions, **options)
    (
        app.pipeline("count")
        .source(source)
        .group_by("k")
        .window(streamapp.tumbling("1s"))
        .aggregate(n=streamapp.count())
        .to(table="counts", topic="out")
    )
    return app


def feed(bench: Bench, partition: int, *times: int) -> None:
    put(bench, "in", *((None, {"k": "a", "ts": ts}) for ts in times), partition=partition)


def counted(app: streamapp.App) -> dict[int, int]:
    """Return the count of each window by its start."""
    return {start: row.n for (_, start), row in app.tables["counts"].items()}


def headways(app: streamapp.App, name: str = "count-2") -> list[Headway]:
    """Return how far the partitions of a stage are."""
    (stage,) = (feed for feed in app.engine.subscriptions if feed.name == name)
    return [stage.headway(tp) for tp in sorted(app.engine.owned) if stage.owns(tp)]


async def until_silent(app: streamapp.App, partition: int = 1) -> None:
    """Wait until a partition of the input is idle."""
    await until(lambda: headways(app, "count")[partition].is_idle)


@pytest.mark.parametrize("before", [(), (1_000,)], ids=["empty", "silent"])
async def test_partition_that_is_idle_holds_nobody_up(
    bench: Bench, before: tuple[int, ...]
) -> None:
    app = counting(bench.app(), idle_after="100ms")
    async with running(app):
        feed(bench, 1, *before)
        feed(bench, 0, 1_100)
        await until_silent(app)
        feed(bench, 0, 1_200, 2_000)
        await until(lambda: counted(app) == {1_000: 2 + len(before)})


async def test_rows_live_in_the_time_of_their_pipeline_whatever_agents_read(bench: Bench) -> None:
    app = counting(bench.app(), partitions=1, idle_after="100ms")
    seen: set[int] = set()

    @app.agent(app.topic("clicks", partitions=1))
    async def read(stream: Any) -> None:
        async for value in stream:
            seen.add(value)

    async with running(app):
        feed(bench, 0, 1_100, 2_200, 3_300)
        await until(lambda: counted(app) == {1_000: 1, 2_000: 1})
        await until_silent(app, 0)
        await until(lambda: headways(app)[0].is_idle)
        for number in range(3):
            put(bench, "clicks", (None, number), timestamp_ms=TODAY_MS + number)
            await until(lambda: number in seen)  # noqa: B023 - awaited here
            await app.engine.commit()
        assert counted(app) == {1_000: 1, 2_000: 1}
        (window,) = app.tables["count-windows"].values()
        assert not window["is_final"]


async def test_partition_that_is_never_idle_is_waited_for(bench: Bench) -> None:
    app = counting(bench.app(), idle_after=None)
    async with running(app):
        feed(bench, 0, 1_100, 9_000)
        feed(bench, 1, 1_300)
        await until(lambda: sum(row["n"] for row in app.tables["count-windows"].values()) == 3)
        assert counted(app) == {}
        feed(bench, 1, 5_000)
        await until(lambda: counted(app) == {1_000: 2})


async def test_silence_of_all_partitions_closes_nothing(bench: Bench) -> None:
    app = counting(bench.app(), idle_after="50ms")
    async with running(app):
        feed(bench, 0, 1_100, 1_900)
        feed(bench, 1, 1_200)
        await until(lambda: all(one.is_idle for one in headways(app)))
        # The slower one was idle last, or not: 1,199 or 1,899 have been reached, never the end.
        assert {one.watermark_ms for one in headways(app)} <= {1_199, 1_899}
        assert counted(app) == {}
        feed(bench, 1, 2_000)
        await until(lambda: counted(app) == {1_000: 3})
        await until(lambda: all(one.is_idle for one in headways(app)))
        assert counted(app) == {1_000: 3}


async def test_partition_that_comes_back_counts_again_and_its_old_records_are_late(
    bench: Bench,
) -> None:
    app = counting(bench.app(), idle_after="100ms")
    async with running(app):
        await until_silent(app)
        feed(bench, 0, 1_100, 7_000)
        await until(lambda: counted(app) == {1_000: 1})
        feed(bench, 1, 1_200, 7_100)
        await until(lambda: 2 in [row["n"] for row in app.tables["count-windows"].values()])
        feed(bench, 0, 7_200, 8_000)
        feed(bench, 1, 8_000)
        await until(lambda: 7_000 in counted(app))
        assert counted(app) == {1_000: 1, 7_000: 3}


async def test_record_of_the_far_future_closes_no_window(bench: Bench) -> None:
    app = counting(bench.app(), idle_after="100ms")
    async with running(app):
        await until_silent(app)
        feed(bench, 0, 1_100, YEAR_10000_MS, 1_200, 2_500)
        await until(lambda: counted(app) == {1_000: 2})
        assert max(one.watermark_ms for one in headways(app)) == 2_499
    assert values(bench, "bench-dead-letters") == [{"k": "a", "ts": YEAR_10000_MS}]


async def test_silent_partition_goes_on_with_the_clock_where_that_is_declared(
    bench: Bench,
) -> None:
    app = counting(bench.app(), idle_after="20ms", advance_on_idle="wallclock")
    async with running(app):
        for partition in (0, 1):
            feed(bench, partition, 1_990)
        await until(lambda: counted(app) == {1_000: 2})


async def test_restart_of_silent_partitions_keeps_the_watermark(bench: Bench) -> None:
    """A stage whose inputs say nothing more is as far as it was, and late is late."""
    app = counting(bench.app(), idle_after="100ms")
    async with running(app):
        await until_silent(app)
        feed(bench, 0, 1_100, 7_000)
        await until(lambda: counted(app) == {1_000: 1})
        await until(lambda: all(one.is_idle for one in headways(app)))
    app = counting(bench.app(), idle_after="100ms")
    async with running(app):
        feed(bench, 1, 1_200, 7_100)
        # As long as a partition is silent, nobody waits for what it has.
        await until(lambda: all(one.watermark_ms >= 7_099 for one in headways(app)))
        feed(bench, 0, 9_000)
        feed(bench, 1, 9_000)
        await until(lambda: 7_000 in counted(app))
        assert counted(app) == {1_000: 1, 7_000: 2}


async def test_input_that_is_ahead_of_its_stage_is_so_after_a_restart(bench: Bench) -> None:
    """Until the first record came it was told to be as far as the stage, which waits for others."""

    def both() -> streamapp.App:
        app = bench.app()
        pipeline = app.pipeline("both")
        first, second = (
            pipeline.source(app.topic(name, event_time="ts", partitions=1, idle_after=None))
            for name in ("in", "other")
        )
        first.merge(second).to(topic="out")
        return app

    def reached(app: streamapp.App) -> list[int]:
        return [one.watermark_ms for one in headways(app, "both")]

    async with running(app := both()):
        put(bench, "in", (None, {"ts": 1_000}))
        put(bench, "other", (None, {"ts": 5_000}))
        await until(lambda: reached(app) == [999, 4_999])
    async with running(app := both()):
        assert reached(app) == [999, 4_999]


@pytest.mark.parametrize("stage", [0, 1])
def test_stage_whose_worker_died_knows_what_others_told_it(stage: int) -> None:
    app = counting(Bench().app())
    driver = PipelineDriver(app.pipelines["count"], partitions=2)
    driver.put("in", [b'{"k": "a", "ts": 5000}'], partition=1)
    driver.put("in", [b'{"k": "a", "ts": 1100}'], partition=0)
    driver.commit()
    driver.crash(stage=stage)
    # Nothing more comes of partition 1: what it has told before must do.
    driver.put("in", [b'{"k": "a", "ts": 6000}'], partition=0)
    driver.commit()
    assert counted(app) == {1_000: 1}


EDGES = [-LAST_MS, -(1 << 61), -1_001, -1_000, -1, 0, 999, 1_000, 1 << 61, LAST_MS - 1, LAST_MS]


async def test_times_at_the_edges_go_through_a_broker(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/bus"
    app = streamapp.App(
        "bench", broker=url, datadir=str(tmp_path), web_enabled=False, commit_interval="10ms"
    )
    source = counting(app, partitions=1, max_future=None).topic("in")
    broker = open_broker(url, tmp_path)
    async with running(app):
        for ts in EDGES:
            await source.send(value={"k": "a", "ts": ts}, partition=0)
        # The last window ends after all time.
        starts = [-LAST_MS, -(1 << 61), -1_001, -1_000, 0, 1_000, 1 << 61]
        wanted = [
            (ts // 1_000 * 1_000, n) for ts, n in zip(starts, (1, 1, 1, 2, 2, 1, 1), strict=True)
        ]
        await until(lambda: len(rows_of(broker)) == len(wanted))
        assert rows_of(broker) == wanted
    broker.close()


def rows_of(broker: Broker) -> list[tuple[int, int]]:
    """Return start and count of the windows that have closed."""
    reader = broker.reader()
    reader.assign({TP("out", 0): 0})
    rows = [json.loads(v or b"") for batch in reader.poll(0, 100) for v in batch.values]
    reader.close()
    return [(row["start"], row["n"]) for row in rows]


def test_time_beyond_the_edges_is_refused() -> None:
    app = counting(Bench().app(), partitions=1, max_future=None)
    driver = PipelineDriver(app.pipelines["count"])
    for ts in (-LAST_MS - 1, LAST_MS + 1, 1 << 63, -(1 << 70)):
        driver.put("in", [b'{"k": "a", "ts": %d}' % ts])
    driver.put("in", [b'{"k": "a", "ts": 1}', b'{"k": "a", "ts": 5000}'])
    driver.commit()
    assert [row.n for row in driver.table("counts").values()] == [1]
    assert len(driver.records(DEAD_LETTERS)) == 4


def test_first_record_after_silence_says_that_it_is_over() -> None:
    sent: list[OutRecord] = []
    sink = RegroupSink("middle", StateCodec(), 1, 3, Way(sent.extend))

    def write(time_ms: int, mark_ms: int) -> None:
        sink.write(Rows(("a",), (time_ms,), ({},), (mark_ms,), (0,)))

    sink.tell(NEVER_MS, is_idle=True)
    write(150, NEVER_MS)
    write(160, 99)
    sink.tell(100, is_idle=True)
    write(170, 100)
    write(180, 100)
    told = [dict(record.headers).get("streamapp-watermark") for record in sent]
    never = b"3 %d" % NEVER_MS
    assert told == [
        *(never, never + b" idle", never, b"3 99"),
        # It has moved before it fell silent.
        *(b"3 100", b"3 100 idle", b"3 100", None),
    ]
