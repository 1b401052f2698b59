"""The table views show what pipelines hold: each kind of state, as a page, newest first, by key."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.browser import browser_tab
from support.engine_app import Bench, running
from support.idioms import put
from support.turns import counted_turns
from support.web_client import free_port

import streamapp
from streamapp.transport.broker import TopicSpec
from streamapp.web.scan import find, read_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamapp.pipelines.flow import Flow


class Sale(streamapp.Record):
    user: str
    amount: float
    at: int


NUMBERS: dict[str, Any] = {
    "n": streamapp.count(),
    "total": streamapp.sum("amount"),
    "sd": streamapp.stddev("amount"),
    "middle": streamapp.quantile("amount", 0.5),
    "who": streamapp.distinct_count("user"),
}


def windowed(window: Any) -> Callable[[Flow], Any]:
    return lambda flow: flow.window(window).aggregate(**NUMBERS).to(table="results")


KINDS: dict[str, Callable[[Flow], Any]] = {
    "tumbling": windowed(streamapp.tumbling("1m")),
    "hopping": windowed(streamapp.hopping("1m", "10s")),
    "sliding": windowed(streamapp.sliding("1m")),
    "session": windowed(streamapp.session("1m")),
    "count": lambda flow: (
        flow.window(streamapp.count_window(10)).aggregate(**NUMBERS).to(topic="results")
    ),
    "join": lambda flow: flow.join(flow, after="1m").to(topic="pairs"),
    "join as of": lambda flow: flow.join_as_of(flow).to(topic="pairs"),
    "join of what looks like a window": lambda flow: (
        flow.map(lambda sale: {"start": sale.at, "end": "soon"})
        .join(flow, after="1m")
        .to(topic="pairs")
    ),
    "dedup": lambda flow: flow.dedup("user", within="1m").to(topic="once"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_state_is_shown(kind: str) -> None:
    bench, port = Bench(), free_port()
    app = bench.app(web_enabled=True, web_port=port, web_host="127.0.0.1")
    source = app.topic("sales", key_type=str, value_type=Sale, event_time="at", out_of_order="1s")
    KINDS[kind](app.pipeline("sold").source(source))
    (name,) = [name for name in app.tables if name.startswith("sold")]
    bench.broker.create_topic(TopicSpec("sales", 1))
    for at in range(1_000, 4_000, 1_000):
        put(bench, "sales", ("ann", {"user": "ann", "amount": 0.1 * at, "at": at}))
    base = f"http://127.0.0.1:{port}/api/v1/tables/{name}"
    async with running(app), aiohttp.ClientSession() as session:

        async def items(path: str) -> Any:
            async with session.get(base + path) as response:
                assert response.status == 200, await response.text()
                return (await response.json(content_type=None))["items"]

        async with asyncio.timeout(20):
            while not (newest := await items("/newest")):
                pass
        shown = [(row["key"], row["value"]) for row in await items("/rows")]
        assert sorted(shown, key=str) == sorted([(r["key"], r["value"]) for r in newest], key=str)
        key, value = shown[0]
        async with session.get(f"{base}/keys", params={"key": json.dumps(key)}) as response:
            assert (await response.json(content_type=None))["value"] == value


async def test_rows_that_are_not_shown_do_not_count_and_give_others_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamapp.web.scan._COUNT_S", 10.0)
    bench, port = Bench(), free_port()
    app = bench.app(web_enabled=True, web_port=port, web_host="127.0.0.1", store_interval="10ms")
    source = app.topic("sales", key_type=str, value_type=Sale, event_time="at")
    KINDS["session"](app.pipeline("sold").source(source))
    (name,) = [name for name in app.tables if name.startswith("sold")]
    bench.broker.create_topic(TopicSpec("sales", 1))
    for number in range(300):
        put(bench, "sales", (f"u{number}", {"user": "ann", "amount": 1.0, "at": 1_000}))
    async with running(app), aiohttp.ClientSession() as session, asyncio.timeout(20):
        about: dict[str, Any] = {}
        while about.get("rows_at_least") != 300:
            async with session.get(f"http://127.0.0.1:{port}/api/v1/tables/{name}") as response:
                about = await response.json(content_type=None)
            await asyncio.sleep(0.1)  # between two looks
        async with counted_turns() as turns:
            page = await read_page(app.tables[name], None, 1_000)
        assert (len(page.rows), page.next) == (300, None)
        assert turns() >= 5  # beside each row lies its timer: six chunks

        # A key is looked for while somebody waits for it.
        async with counted_turns() as turns:
            path = f"http://127.0.0.1:{port}/api/v1/tables/{name}/keys/nobody"
            async with session.get(path) as response:
                assert response.status == 404
            assert turns() >= 5
            looked = len(await find(app.tables[name], "u99"))
            before = turns()
            assert await find(app.tables[name], "u99", lambda: False) == []
            assert (looked, turns() - before) == (1, 0)

        monkeypatch.setattr("streamapp.web.scan._PAGE_S", -1.0)
        keys, pages, after = [], 0, None
        while pages == 0 or after is not None:
            page = await read_page(app.tables[name], after, 1_000)
            assert page.is_partial is (page.next is not None)
            keys += [json.loads(bytes(row))["key"] for row in page.rows]
            pages, after = pages + 1, page.next
        assert sorted(keys) == sorted(f"u{number}" for number in range(300))
        assert pages >= 6


async def test_the_page_shows_windows_as_times_of_day(tmp_path: Path) -> None:
    bench, port = Bench(), free_port()
    app = bench.app(web_enabled=True, web_port=port, web_host="127.0.0.1")
    source = app.topic("sales", key_type=str, value_type=Sale, event_time="at")
    flow = app.pipeline("sold").source(source).window(streamapp.tumbling("1m")).emit("update")
    flow.aggregate(total=streamapp.sum("amount")).to(table="per_minute")
    stays = app.pipeline("stays").source(source)
    stays.map(lambda _: {"key": "room", "start": 1, "end": 5}).to(table="stays")
    bench.broker.create_topic(TopicSpec("sales", 1))
    put(bench, "sales", ("ann", {"user": "ann", "amount": 2.5, "at": 86_399_000}))
    async with running(app), browser_tab(tmp_path) as tab:
        await tab.look(width=1200, height=900)
        await tab.open(f"http://127.0.0.1:{port}")
        cells = "document.querySelectorAll('[data-table=per_minute] tbody td')"
        shown = await tab.until(f"[...{cells}].map(cell => cell.innerText)", bool)
        assert shown == [
            '"ann"',
            "1970-01-01 23:59:00 - 1970-01-02 00:00:00Z update {total: 2.5}",
            "0",
        ]
        cells = cells.replace("per_minute", "stays")
        shown = await tab.until(f"[...{cells}].map(cell => cell.innerText)", bool)
        assert shown == ['"ann"', '{key: "room", start: 1, end: 5}', "0"]
        assert tab.errors == []


async def test_late_and_repeated_records_are_counted() -> None:
    bench, port = Bench(), free_port()
    app = bench.app(web_enabled=True, web_port=port, web_host="127.0.0.1")
    source = app.topic("sales", key_type=str, value_type=Sale, event_time="at")
    flow = app.pipeline("sold").source(source).dedup("user", within="10s")
    flow.window(streamapp.tumbling("1s")).aggregate(n=streamapp.count()).to(table="per_second")
    bench.broker.create_topic(TopicSpec("sales", 1))
    for user, at in [("a", 1_000), ("a", 1_100), ("b", 9_000), ("c", 1_500), ("d", 1_600)]:
        put(bench, "sales", ("key", {"user": user, "amount": 1, "at": at}))
    names = ("streamapp_late_records_total", "streamapp_dropped_records_total")
    async with running(app), aiohttp.ClientSession() as session, asyncio.timeout(20):
        found: dict[Any, float] = {}
        while sum(found.values()) < 5:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                families = text_string_to_metric_families(await response.text())
            samples = [sample for family in families for sample in family.samples]
            found = {
                (each.name, *map(each.labels.get, ("step", "outcome", "reason"))): each.value
                for each in samples
                if each.name in names
            }
        late, dropped = names
        assert found == {
            (dropped, "dedup", None, "repeated"): 1,
            (late, "dedup", "passed", None): 2,
            (late, "windows", "dropped", None): 2,
        }
