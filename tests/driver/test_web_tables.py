"""The table views of real workers, asked over HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from support.turns import counted_turns
from support.web_app import Total
from support.web_client import eventually, worker

from streamapp.state.store import prefix_end
from streamapp.web.scan import RowCounts, read_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.web_app import WebApp
    from support.web_client import Json


async def test_tables_are_described() -> None:
    async with worker() as client:
        tables = (await client.get("/api/v1/tables"))["tables"]
        assert [each["name"] for each in tables] == ["totals", "by_number", "anything", "held"]
        totals = await client.get("/api/v1/tables/totals")
        assert totals["key_type"] == "str"
        assert totals["value_type"] == "Total"
        assert totals["help"] == "By user"
        assert totals["partitions"] == 2
        assert totals["changelog"] == "web-test-totals-changelog"
        assert totals["placement"] == [
            {"partition": n, "owned": True, "role": "active", "worker": client.base} for n in (0, 1)
        ]


async def test_rows_are_counted() -> None:
    async with worker(store_interval="10ms") as client:
        for number in range(5):
            await client.send("orders", f"u{number}", Total(number))
        path = "/api/v1/tables/totals"
        about = await client.until(path, lambda got: got["rows"] == 5)
        assert about["rows_at_least"] == 5


async def test_a_row_says_where_it_is_and_how_far_its_source_is() -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(3, 2**60, "hi"), partition=1)
        row = await client.row("totals", "ada")
        assert row["value"] == {"count": 3, "id": 2**60, "note": "hi"}
        assert (row["table"], row["key"], row["partition"]) == ("totals", "ada", 1)
        assert row["meta"]["state"] == "running"
        assert row["meta"]["positions"]["orders/1"] == 1


@pytest.mark.parametrize(
    ("path", "query", "value"),
    [
        ("by_number/keys/7", None, 14),
        ("by_number/keys", "7", 14),
        ("anything/keys/ada", None, 7),
        ("anything/keys/7", None, 7),  # undeclared: no text "7", so the number
        ("anything/keys", '"ada"', 7),
        ("anything/keys", "7", 7),
        ("anything/keys", "true", 7),
        ("anything/keys", '["ada", 7]', 7),
        ("anything/keys", '""', 7),
        ("anything/keys", '"a/b"', 7),
        ("anything/keys/a/b", None, 7),
        ("anything/keys/a%2Fb", None, 7),
    ],
)
async def test_keys_are_typed(path: str, query: str | None, value: int) -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(7))
        await client.row("totals", "ada")
        params = {} if query is None else {"key": query}
        assert (await client.get(f"/api/v1/tables/{path}", **params))["value"] == value


@pytest.mark.parametrize(
    ("path", "query", "status", "kind"),
    [
        ("totals/keys/nobody", None, 404, "absent_key"),
        ("totals/keys/two%0Alines", None, 404, "absent_key"),
        ("anything/keys/nobody", None, 404, "absent_key"),  # the table has a default
        ("anything/keys", '"7"', 404, "absent_key"),  # a text is not a number
        ("anything/keys", "1", 404, "absent_key"),  # True is not 1
        ("by_number/keys/seven", None, 400, "bad_key"),
        ("by_number/keys/07", None, 400, "bad_key"),
        ("by_number/keys", '"7"', 400, "bad_key"),
        ("by_number/keys", "{", 400, "bad_key"),
        ("by_number/keys", None, 400, "bad_key"),
        ("anything/keys", '"\\ud800"', 400, "bad_key"),
        ("nothing/keys/7", None, 404, "unknown_table"),
        ("nothing/rows", None, 404, "unknown_table"),
        ("nothing/newest", None, 404, "unknown_table"),
        ("nothing", None, 404, "unknown_table"),
    ],
)
async def test_what_is_not_there(path: str, query: str | None, status: int, kind: str) -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(7))
        await client.row("totals", "ada")
        params = {} if query is None else {"key": query}
        problem = await client.get(f"/api/v1/tables/{path}", status, **params)
        assert (problem["type"], problem["status"]) == (kind, status)


async def test_a_wrong_key_names_the_expected_type() -> None:
    async with worker() as client:
        problem = await client.get("/api/v1/tables/by_number/keys/x", 400)
        assert problem["expected"] == "an int"


async def test_a_key_in_several_partitions_names_them() -> None:
    async with worker() as client:
        await client.send("orders", "ada", Total(1), partition=0)
        await client.send("orders", "bob", Total(1), partition=1)
        path = "/api/v1/tables/by_number/keys/1"
        row = await client.until(path, lambda got: "also_in" in got.get("meta", {}))
        assert {row["partition"], *row["meta"]["also_in"]} == {0, 1}


async def test_what_an_unfinished_event_has_written_is_not_shown() -> None:
    async with worker() as client:
        await client.send("waits", "ada", 1, partition=0)
        await client.row("held", "ada")
        await client.send("waits", "ada", -2, partition=0)
        await eventually(
            lambda: asyncio.sleep(0, client.app.tables["held"].shards[0].begun()), bool
        )
        assert (await client.get("/api/v1/tables/held/keys/ada"))["value"] == 1
        items = (await client.get("/api/v1/tables/held/rows"))["items"]
        assert items == [{"key": "ada", "value": 1, "partition": 0}]
        client.app.release.set()
        await client.until("/api/v1/tables/held/rows", lambda got: got["items"][0]["value"] == -2)


async def test_pages_cover_all_rows_once_in_order() -> None:
    async with worker() as client:
        for number in range(250):
            await client.send("orders", f"u{number:03}", Total(number), partition=number % 2)
        await client.until("/api/v1/status", lambda got: got["events"] == 250)
        seen: list[tuple[int, str]] = []
        cursor: dict[str, str] = {}
        while True:
            page = await client.get("/api/v1/tables/totals/rows", limit="120", **cursor)
            assert len(page["items"]) <= 120
            seen += [(each["partition"], each["key"]) for each in page["items"]]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert seen == sorted((number % 2, f"u{number:03}") for number in range(250))
        assert (page["partial"], page["missing_partitions"]) == (False, [])


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "ten"},
        {"limit": "٣"},
        {"cursor": "?"},
        {"prefix": "a"},
        {"limits": "5"},
    ],
)
async def test_wrong_parameters_are_refused(query: dict[str, str]) -> None:
    async with worker() as client:
        problem = await client.get("/api/v1/tables/totals/rows", 400, **query)
        assert (problem["type"], problem["parameter"]) == ("bad_parameter", *query)


async def test_parameters_that_change_nothing_are_refused() -> None:
    async with worker() as client:
        for path in ("tables", "tables/totals"):
            problem = await client.get(f"/api/v1/{path}", 400, limit="5")
            assert (problem["type"], problem["hint"]) == ("bad_parameter", "There are none")


async def test_a_page_gives_others_a_turn() -> None:
    async with worker() as client:
        for number in range(600):
            await client.send("orders", f"u{number}", Total(number), partition=0)
        await client.until("/api/v1/status", lambda got: got["events"] == 600)
        async with counted_turns() as turns:
            page = await read_page(client.app.tables["totals"], None, 600)
        assert len(page.rows) == 600
        assert turns() >= 5


async def test_huge_rows_give_others_a_turn() -> None:
    async with worker(store_interval="10ms") as client:
        for number in range(20):
            order = Total(number, 0, "x" * 100_000)
            await client.send("orders", f"u{number}", order, partition=0)
        await client.until("/api/v1/tables/held", lambda _: not is_pending(client.app, 20))
        totals = client.app.tables["totals"]
        async with counted_turns() as turns:
            count = await RowCounts().of(totals, client.app.engine.keeper)
        assert count == (20, True)
        assert turns() >= 6  # of three rows each; their values were read in one go
        async with counted_turns() as turns:
            page = await read_page(totals, None, 20)
        assert len(page.rows) == 11
        assert page.is_partial
        assert turns() >= 3


def is_pending(app: WebApp, count: int) -> bool:
    """Tell whether there are less rows than these in the store."""
    shard = app.tables["totals"].shards[0]
    start, end = shard.prefix, prefix_end(shard.prefix)
    return sum(1 for _ in app.engine.keeper.store.scan(start, end)) < count


async def test_rows_are_counted_whatever_else_there_is_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with worker(store_interval="10ms") as client:
        await client.send("orders", "ada", Total(1), partition=0)
        await client.send("orders", "bob", Total(2), partition=1)
        store, totals = client.app.engine.keeper.store, client.app.tables["totals"]
        await client.until("/api/v1/tables/totals", lambda got: got["rows"] == 2)

        original = type(store).scan

        def scan(*of: Any) -> Iterator[tuple[bytes, bytes]]:
            time.sleep(0.02)  # others have the processor
            return original(*of)

        monkeypatch.setattr(type(store), "scan", scan)
        assert await RowCounts().of(totals, client.app.engine.keeper) == (2, True)


async def test_rows_of_partitions_that_have_come_are_counted_at_once() -> None:
    async with worker(store_interval="10ms") as client:
        await client.send("orders", "ada", Total(1))
        await client.until("/api/v1/tables/totals", lambda got: got["rows"] == 1)
        counts, totals = RowCounts(), client.app.tables["totals"]
        shards, keeper = {**totals.shards}, client.app.engine.keeper
        totals.shards.clear()
        assert await counts.of(totals, keeper) == (0, True)
        totals.shards.update(shards)
        assert await counts.of(totals, keeper) == (1, True)


async def test_newest_rows_come_first_and_deleted_ones_vanish() -> None:
    async with worker() as client:
        path = "/api/v1/tables/totals/newest"
        for number, user in enumerate(["ada", "bob", "ada", "cyd"]):
            await client.send("orders", user, Total(number))
            # Each in a commit of its own: inside of one there is no order.
            await client.until(path, lambda got, n=number: n in counts(got))
        items = (await client.get(path))["items"]
        assert [(each["key"], each["value"]["count"]) for each in items] == [
            ("cyd", 3), ("ada", 2), ("bob", 1),
        ]  # fmt: skip
        assert len((await client.get(path, limit="2"))["items"]) == 2
        await client.send("orders", "ada", Total(9, 0, "delete"))
        await client.until(path, lambda got: counts(got) == [3, 1])


def counts(newest: Json) -> list[int]:
    return [each["value"]["count"] for each in newest["items"]]


async def test_two_workers_show_their_own_and_point_to_each_other() -> None:
    broker = f"memory://{uuid4().hex}"
    async with worker(broker) as one:
        for number in range(8):
            await one.send("orders", f"u{number}", Total(number), partition=number % 2)
        await one.until("/api/v1/tables/totals/newest", lambda got: len(got["items"]) == 8)
        lag = ("streamapp_consumer_lag_records", ("0", "orders"))
        assert lag in await one.series()
        async with worker(broker) as two:
            clients = {}
            for client in (one, two):
                about = await client.until(
                    "/api/v1/tables/totals", lambda got: len(got["owned"]) == 1
                )
                clients[about["owned"][0]] = client
                await client.until("/readyz", lambda got: got["status"] == "ready")
            path = "/api/v1/tables/totals/keys/u1"
            assert (await clients[1].get(path))["value"]["count"] == 1
            problem = await clients[0].get(path, 421)
            assert problem["type"] == "not_here"
            assert problem["partitions_here"] == [0]
            assert problem["elsewhere"] == [{"partition": 1, "worker": clients[1].base}]
            page = await clients[0].get("/api/v1/tables/totals/rows")
            assert [each["key"] for each in page["items"]] == ["u0", "u2", "u4", "u6"]
            assert page["missing_partitions"] == [1]
            # The newest rows come from the changelog: those of the other worker are there too.
            assert len((await two.get("/api/v1/tables/totals/newest"))["items"]) == 8
            # What a worker has lost is gone from its metrics.
            for owned, client in clients.items():
                series = await client.series()
                of = {
                    labels[0] for name, labels in series if name == lag[0] and labels[1] == "orders"
                }
                assert of == {str(owned)}
