"""The page of a real worker in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.browser import browser_tab
from support.web_app import Total
from support.web_client import worker

if TYPE_CHECKING:
    from pathlib import Path

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
