"""The page of a real worker in a real browser."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from support.browser import browser_tab
from support.web_app import Total
from support.web_client import Client, free_port, started, worker

import streamapp
from streamapp.errors import BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

    from support.browser import Tab

HOSTILE = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


async def test_the_page_shows_rows_as_text_and_tells_when_the_worker_is_gone(
    tmp_path: Path,
) -> None:
    async with worker() as client, browser_tab(tmp_path) as tab:
        await client.send("orders", HOSTILE, Total(1, 2**60 + 1, HOSTILE), partition=0)
        await tab.look(width=1200, height=900)
        await tab.open(client.base)
        rows = (
            "[...document.querySelectorAll('[data-table=totals] tbody tr')].map(r => r.innerText)"
        )
        shown = await tab.until(rows, bool)
        assert HOSTILE in shown[0]
        assert str(2**60 + 1) in shown[0]  # more than a double holds
        await client.send("orders", HOSTILE, Total(2), partition=0)
        await tab.until(rows, lambda shown: "count: 2" in shown[0])
        assert await tab.eval("document.querySelectorAll('main img, main script').length") == 0
        assert await tab.eval("document.title") == "web-test · streamapp"
        assert await tab.eval("document.querySelector('#phase').textContent") == "running"
        assert await tab.eval("document.querySelector('#banner').hidden")
        assert "add" in await tab.eval("document.querySelector('#agents').innerText")
        assert "orders" in await tab.eval("document.querySelector('#partitions').innerText")
        assert tab.errors == []
        assert {url for url in tab.urls if not url.startswith(f"{client.base}/")} == set()
        await client.app.web.stop()
        banner = await tab.until(
            "document.querySelector('#banner').hidden ? '' : "
            "document.querySelector('#banner').textContent"
        )
        assert "does not answer" in banner
        assert await tab.eval(rows) != []


@asynccontextmanager
async def worker_with(rows: Collection[tuple[Any, Any]]) -> AsyncIterator[Client]:
    """Run a worker with these rows in one partition of its table ``things``, in one commit."""
    broker = f"memory://{uuid4().hex}"
    app = streamapp.App(
        "shown", broker=broker, store="memory://", web_port=free_port(), topic_partitions=1
    )
    things = app.Table("things")
    puts = app.topic("puts", key_type=str, value_type=str)

    @app.agent(puts)
    async def put(stream: streamapp.Stream) -> None:
        async for _ in stream:
            for key, value in rows:
                things[key] = value

    async with started(app, app) as client:  # type: ignore[arg-type] # any application will do
        await client.until("/readyz", lambda got: got["status"] == "ready")
        await puts.send(key="k", value="go")
        path = "/api/v1/tables/things/newest"
        await client.until(path, lambda got: got.get("items", []) != [])
        yield client


CELLS = "[...document.querySelectorAll('[data-table=things] tbody tr')].map(r => r.innerText)"
BANNER = "document.querySelector('#banner').textContent"


async def press(tab: Tab, key: str) -> None:
    codes = {"Tab": 9, "Enter": 13, "ArrowDown": 40}
    for kind in ("rawKeyDown", "keyUp"):
        await tab.call(
            "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key]
        )


async def test_the_page_shows_the_beginning_of_a_huge_value(tmp_path: Path) -> None:
    numbers, text = list(range(90_000)), "x" * 500_000
    rows = [("numbers", numbers), ("text", text)]
    async with worker_with(rows) as client, browser_tab(tmp_path) as tab:
        await tab.open(client.base)
        shown = await tab.until(CELLS, lambda shown: len(shown) == len(rows))
        assert any("[0, 1, 2" in row and row.split("\t")[1].endswith("… (cut)") for row in shown)
        assert any('"xxxx' in row and row.split("\t")[1].endswith("… (cut)") for row in shown)
        assert max(map(len, shown)) < 2_000
        assert await tab.eval(BANNER) == ""
        assert tab.errors == []


async def test_keys_that_look_alike_are_rows_of_their_own(tmp_path: Path) -> None:
    # To a dict 1 and 1.0 are one key.
    rows = [(1, "int"), (1.0, "float"), ("YWJj", "text"), (b"abc", "bytes")]
    async with worker_with(rows) as client, browser_tab(tmp_path) as tab:
        await tab.open(client.base)
        shown = await tab.until(CELLS, bool)
        assert sorted(row.split()[1] for row in shown) == ['"bytes"', '"float"', '"int"', '"text"']


async def test_a_row_opens_by_the_keyboard(tmp_path: Path) -> None:
    rows = [(f"row{number}", ["word"] * 300) for number in range(3)]
    async with worker_with(rows) as client, browser_tab(tmp_path) as tab:
        await tab.open(client.base)
        await tab.until(CELLS, lambda shown: len(shown) == len(rows))
        for _ in range(3):  # two links are before the first row
            await press(tab, "Tab")
        await press(tab, "ArrowDown")
        await press(tab, "Enter")
        opened = "[...document.querySelectorAll('tr.open')].map(r => r.innerText)"
        (row,) = await tab.eval(opened)
        assert row.startswith('"row1"')
        assert row.count('"word"') == 300
        assert await tab.eval("document.activeElement.matches('tr.open:focus-visible')")
        await press(tab, "Enter")
        assert await tab.eval(opened) == []
        # A table is one stop on the way of Tab.
        await press(tab, "Tab")
        assert await tab.eval("document.activeElement.closest('[data-table]')") is None


async def test_the_page_tells_of_a_broker_that_is_away(tmp_path: Path) -> None:
    def gone(*_: object) -> NoReturn:
        msg = "The broker is away"
        raise BrokerUnavailableError(msg)

    async with worker_with([("ann", 1)]) as client, browser_tab(tmp_path) as tab:
        await tab.open(client.base)
        await tab.until(CELLS, bool)
        client.app.broker.offsets, offsets = gone, client.app.broker.offsets
        banner = await tab.until(BANNER)
        assert banner == "Some of this is old: The broker is away"
        assert await tab.eval("document.querySelector('#phase').textContent") == "running"
        assert await tab.eval(CELLS) != []
        client.app.broker.offsets = offsets
        await tab.until("document.querySelector('#banner').hidden")
