"""Windowed tables in real workers: the idioms of Faust's guide, restarts, and the API."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import faust
import pytest
from support.engine_app import Bench, running, until
from support.idioms import put
from support.web_client import free_port

import streamapp
from streamapp.errors import ConfigError
from streamapp.serde.ordered_keys import decode_key
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from streamapp.state.windowed import WindowedTable


class Visit(streamapp.Record):
    page: str
    at: datetime


class FaustVisit(faust.Record, serializer="json"):
    page: str
    at: float


@pytest.fixture
def bench() -> Bench:
    return Bench()


def counting(bench: Bench, **windows: Any) -> tuple[streamapp.App, WindowedTable]:
    """Return an application that counts the values of topic ``visits`` per window."""
    app = bench.app()
    views = app.Table("views", default=int, key_type=str).hopping(**windows)

    @app.agent(app.topic("visits"), on_error="retry")
    async def count(stream: Any) -> None:
        async for page in stream:
            views[page] += 1

    return app, views


def visit(bench: Bench, *times_ms: int, page: Any = "home", partition: int = 0) -> None:
    for time_ms in times_ms:
        put(bench, "visits", (None, page), timestamp_ms=time_ms, partition=partition)


def counts(views: WindowedTable, page: str = "home") -> dict[int, int]:
    return {window.start_ms: value for window, value in views[page].windows()}


def living(bench: Bench) -> dict[Any, Any]:
    """Return the rows of the changelog, in which a deleted one is null."""
    return {
        decode_key(key or b""): None if data is None else json.loads(data[8:])
        for key, data in bench.rows("views").items()
    }


# --- the guide -----------------------------------------------------------------------------------


async def test_page_views_of_the_guide(bench: Bench) -> None:
    app = bench.app()
    page_views = app.Table("page_views", default=int).tumbling(10.0, expires=timedelta(minutes=10))
    seen: list[Any] = []

    @app.agent(app.topic("visits"))
    async def aggregate(pages: Any) -> None:
        async for page in pages:
            page_views[page] += 1
            views = page_views[page]
            seen.append(
                (views.now(), views.current(), views.value(), views.delta(timedelta(seconds=30)))
            )

    async with running(app):
        visit(bench, 5_000, 9_999, 10_000, 39_999)
        await until(lambda: len(seen) == 4)
        assert seen == [(0, 1, 1, 0), (0, 2, 2, 0), (0, 1, 1, 0), (0, 1, 1, 2)]
        visit(bench, int(datetime.now(UTC).timestamp() * 1_000))
        await until(lambda: len(seen) == 5)
        assert page_views["home"].now() in (0, 1)  # the clock may have left the window
        assert page_views.relative_to(39.0)["home"].value() in (0, 1)


async def test_keys_items_and_values_of_the_guide(bench: Bench) -> None:
    app = bench.app()
    views = app.Table("views", default=int).tumbling(10, expires="10m", key_index=True)
    seen: list[Any] = []

    @app.agent(app.topic("visits"))
    async def aggregate(pages: Any) -> None:
        async for page in pages:
            views[page] += 1
            seen.append(
                (
                    list(views.keys()),
                    list(views.items()),
                    list(views.values().delta(10)),
                    list(views.relative_to_stream().keys()),
                    list(views.keys().now()),
                )
            )

    async with running(app):
        visit(bench, 1_000, 2_000)
        visit(bench, 3_000, 11_000, 4_000, page="about")
        await until(lambda: len(seen) == 5)
    assert seen[2] == (["about", "home"], [("about", 1), ("home", 2)], [], ["about", "home"], [])
    assert seen[3] == (["about"], [("about", 1)], [1, 2], ["about"], [])
    assert seen[4] == (["about", "home"], [("about", 2), ("home", 2)], [], ["about"], [])


@pytest.mark.parametrize(
    ("model", "times"),
    [(Visit, ["1970-01-01T00:00:12.5Z", "1970-01-01T00:00:20Z"]), (FaustVisit, [12.5, 20.0])],
)
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_relative_to_a_field_of_the_event(
    bench: Bench, model: Any, times: list[object], concurrency: int
) -> None:
    app = bench.app()
    views = app.Table("views", default=int).hopping(1, 0.25).relative_to_field(model.at)
    seen: list[int] = []
    # In one batch: each event must find its own value, not the first one's.
    bench.broker.create_topic(TopicSpec("visits", 1))
    put(bench, "visits", *[(None, {"page": "home", "at": time}) for time in times])

    @app.agent(app.topic("visits", value_type=model), concurrency=concurrency)
    async def aggregate(stream: Any) -> None:
        async for each in stream:
            views[each.page] += 1
            await asyncio.sleep(0)
            seen.append(views[each.page].value())

    async with running(app):
        starts = [*range(11_750, 12_501, 250), *range(19_250, 20_001, 250)]
        await until(lambda: counts(views) == dict.fromkeys(starts, 1))
        await until(lambda: len(seen) >= len(times))
        assert set(seen) == {1}


async def test_a_list_of_values_is_placed_by_each_ones_own_time(bench: Bench) -> None:
    app = bench.app()
    views = app.Table("views", default=int).tumbling(1)

    @app.agent(app.topic("visits", value_type=Visit))
    async def aggregate(stream: Any) -> None:
        async for visits in stream.take(10, within=0.01):
            for each in visits:
                views.relative_to(each.at)[each.page] += 1

    async with running(app):
        for second in (1, 2, 2):
            visit(bench, 0, page={"page": "home", "at": f"1970-01-01T00:00:0{second}Z"})
        await until(lambda: counts(views) == {1_000: 1, 2_000: 2})


def test_callbacks_at_the_end_of_a_window_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="on_window_close"):
        bench.app().Table("views", on_window_close=print)


# --- events --------------------------------------------------------------------------------------


async def test_event_that_is_run_again_counts_once(bench: Bench) -> None:
    app = bench.app()
    views = app.Table("views", default=int).hopping(3, 1)
    failures: list[int] = []

    @app.agent(app.topic("visits"), on_error="retry")
    async def aggregate(pages: Any) -> None:
        async for page in pages:
            views[page] += 1
            if page == "bad" and len(failures) < 2:
                failures.append(1)
                raise ValueError(page)

    async with running(app):
        visit(bench, 5_000, page="bad")
        visit(bench, 5_500)
        await until(lambda: len(counts(views)) == 3)
        assert counts(views) == counts(views, "bad") == {3_000: 1, 4_000: 1, 5_000: 1}
        assert len(failures) == 2


async def test_two_agents_that_wait_in_the_middle_lose_no_count(bench: Bench) -> None:
    app = bench.app()
    views = app.Table("views", default=int).hopping(2, 1)
    topic = app.topic("visits")

    def declare(name: str) -> None:
        @app.agent(topic, name=name)
        async def aggregate(pages: Any) -> None:
            async for page in pages:
                before = views[page].current()
                await asyncio.sleep(0)
                views[page] += 1
                assert views[page].current() == before + 1

    declare("one")
    declare("two")
    async with running(app):
        visit(bench, *[500] * 50)
        await until(lambda: counts(views) == {-1_000: 100, 0: 100})


# --- restarts and expiry -------------------------------------------------------------------------


async def test_restart_goes_on_with_the_same_windows(bench: Bench) -> None:
    for run in range(3):
        app, views = counting(bench, size=0.03, step="10ms", expires=1)
        async with running(app):
            visit(bench, 15, 25, -5)
            await until(lambda: counts(views).get(20) == run + 1)  # noqa: B023 - awaited in here
            await until(lambda: counts(views).get(-10) == 2 * run + 2)  # noqa: B023 - see above
    once = {-30: 1, -20: 1, -10: 2, 0: 2, 10: 2, 20: 1}
    assert counts(views) == {}  # stopped: it owns no partition
    assert living(bench) == {("home", start): 3 * count for start, count in once.items()}


async def test_restored_windows_expire_in_event_time_and_leave_the_changelog(bench: Bench) -> None:
    app, views = counting(bench, size=10, step=10, expires=5)
    async with running(app):
        visit(bench, 1_000, 12_000)
        await until(lambda: counts(views) == {0: 1, 10_000: 1})
    app, views = counting(bench, size=10, step=10, expires=5)
    async with running(app):
        assert counts(views) == {0: 1, 10_000: 1}
        visit(bench, 14_999)
        await until(lambda: counts(views) == {0: 1, 10_000: 2})
        visit(bench, 15_000)
        await until(lambda: counts(views) == {10_000: 3})  # absent at once, swept a little later
        visit(bench, 16_000)
        await until(lambda: living(bench) == {("home", 0): None, ("home", 10_000): 4})
        visit(bench, 9_999)
        visit(bench, 20_000)
        await until(lambda: counts(views) == {10_000: 4, 20_000: 1})
    assert living(bench) == {("home", 0): None, ("home", 10_000): 4, ("home", 20_000): 1}


# --- the API -------------------------------------------------------------------------------------


async def test_api_shows_keys_and_their_windows(bench: Bench) -> None:
    port = free_port()
    app = bench.app(web_enabled=True, web_port=port, web_bind="127.0.0.1", topic_partitions=2)
    views = app.Table("views", default=int, key_type=str).hopping(10, 5, expires="1h")

    @app.agent(app.topic("visits"))
    async def count(stream: Any) -> None:
        async for page in stream:
            views[page] += 1

    base = f"http://127.0.0.1:{port}/api/v1/tables/views"
    async with running(app), aiohttp.ClientSession() as session:

        async def get(path: str, status: int = 200) -> Any:
            async with session.get(base + path) as response:
                assert response.status == status
                return await response.json(content_type=None)

        visit(bench, 12_000, 16_000)
        visit(bench, 12_000, page="a b", partition=1)
        await until(lambda: len(counts(views)) == 3 and len(counts(views, "a b")) == 2)
        about = await get("")
        assert about["windows"] == {"size_ms": 10_000, "step_ms": 5_000, "expires_ms": 3_600_000}
        assert about["ttl_ms"] is None

        windows = [
            {"start_ms": 15_000, "end_ms": 25_000, "value": 1},
            {"start_ms": 10_000, "end_ms": 20_000, "value": 2},
            {"start_ms": 5_000, "end_ms": 15_000, "value": 1},
        ]
        row = await get("/keys/home")
        assert (row["key"], row["windows"], row["partition"]) == ("home", windows, 0)
        assert (await get("/keys/home?limit=1"))["windows"] == windows[:1]
        assert (await get('/keys?key="a b"'))["partition"] == 1
        assert (await get("/keys/nobody", 404))["type"] == "absent_key"

        page = await get("/rows?limit=2")
        more = await get(f"/rows?cursor={page['next']}")
        items = page["items"] + more["items"]
        assert [(item["key"], item["window"]["start_ms"], item["value"]) for item in items] == [
            ("home", 5_000, 1), ("home", 10_000, 2), ("home", 15_000, 1),
            ("a b", 5_000, 1), ("a b", 10_000, 1),
        ]  # fmt: skip
        for item in items:
            assert item["window"]["end_ms"] == item["window"]["start_ms"] + 10_000

        await until(lambda: len(bench.rows("views")) == 3)
        newest = (await get("/newest"))["items"]
        assert {(item["key"], item["window"]["start_ms"], item["value"]) for item in newest} == {
            (item["key"], item["window"]["start_ms"], item["value"]) for item in items
        }
