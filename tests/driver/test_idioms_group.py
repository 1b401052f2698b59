"""Faust's ways to see what is around an agent: its event, the group, the worker of a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import faust
import pytest
from faust.web import View
from support.engine_app import Bench, running, until
from support.idioms import put
from support.web_client import free_port

from streamapp.core.batch import TP
from streamapp.transport.broker import MemberInfo
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    import streamapp


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_current_event_is_the_one_in_hand(concurrency: int) -> None:
    bench = Bench()
    app = bench.app()
    seen: list[Any] = []

    def note(stream: Any) -> None:
        event = faust.current_event()
        assert event is not None
        seen.append((event.key, event.value, event.message.offset, stream.current_event.value))

    @app.agent(app.topic("in", key_type=str, value_type=int), concurrency=concurrency)
    async def look(stream: Any) -> None:
        assert faust.current_event() is None
        async for _ in stream:
            note(stream)

    async with running(app):
        put(bench, "in", ("a", 1), ("b", 2))
        await until(lambda: len(seen) == 2)
    assert sorted(seen) == [("a", 1, 0, 1), ("b", 2, 1, 2)]
    assert faust.current_event() is None


async def test_signals_of_the_group() -> None:
    bench = Bench()
    app = bench.app(topic_partitions=2)
    counts = app.Table("counts", key_type=str, default=int)
    told: list[Any] = []

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def count(stream: Any) -> None:
        async for key, value in stream.items():
            counts[key] += value

    @app.on_partitions_assigned.connect
    async def assigned(_: Any, assigned: set[Any], **__: Any) -> None:
        told.append(("assigned", sorted(assigned), counts.get("a")))

    @app.on_rebalance_complete.connect
    async def complete(_: Any, **__: Any) -> None:
        told.append("complete")

    @app.on_partitions_revoked.connect
    async def revoked(_: Any, revoked: set[Any], **__: Any) -> None:
        told.append(("revoked", sorted(revoked), counts.get("a")))

    both = [("in", 0), ("in", 1)]
    async with running(app):
        await until(lambda: len(told) == 2)
        put(bench, "in", ("a", 5))
        await until(lambda: bench.position("in") == 1)
        other = bench.broker.join("bench", ["in"])
        await until(lambda: len(told) == 5)
        other.leave()
    assert told[:3] == [("assigned", both, None), "complete", ("revoked", both, 5)]
    name, owned, _ = told[3]
    assert (name, len(owned), told[4]) == ("assigned", 1, "complete")


def word_count(bench: Bench, port: int) -> streamapp.App:
    """Faust's tutorial: any worker answers for any word."""
    host, url = f"worker-{port}.example", f"http://127.0.0.1:{port}"
    web = {"web_enabled": True, "web_port": port, "web_host": host, "web_bind": "127.0.0.1"}
    app = bench.app(topic_partitions=2, canonical_url=url, **web)
    words = app.topic("words", key_type=str, value_type=int)
    counts = app.Table("counts", key_type=str, default=int)

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for word, n in stream.items():
            counts[word] += n

    @app.page("/count/{word}/")
    @app.table_route(table=counts, match_info="word")
    async def get_count(self: Any, request: Any, word: str) -> Any:
        del request
        return self.json({"n": counts[word], "by": port})

    @app.page("/reads")
    @app.topic_route(topic=words, query_param="word")
    async def reads(self: Any, request: Any) -> Any:
        del request
        return self.json({"by": port})

    class Notes(View):
        @app.table_route(table=counts, match_info="word")
        async def post(self, request: Any, word: str) -> Any:
            note = await request.text()
            return self.bytes(f"{word} {note} {port}".encode("latin-1"))

    app.page("/notes/{word}/")(Notes)
    return app


async def test_table_route_and_topic_route_ask_the_worker_of_the_key() -> None:
    bench = Bench()
    ports = free_port(), free_port()
    keys = {partition_for_key(key.encode(), 2): key for key in ("a", "b", "c", "d", "e")}
    first, second = (word_count(bench, port) for port in ports)
    async with running(first), running(second), aiohttp.ClientSession() as session:
        for number, key in keys.items():
            put(bench, "words", (key, 1), partition=number)
        await until(lambda: first.engine.group.rebalances == 2)
        await until(lambda: all(len(app.engine.owned) == 1 for app in (first, second)))

        async def ask(port: int, path: str) -> Any:
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                assert response.status == 200, await response.text()
                return await response.json()

        for number, key in keys.items():
            apps = [app for app in (first, second) if ("words", number) in app.engine.owned]
            (owner,) = (app.conf.web_port for app in apps)
            await until(lambda table=apps[0].tables["counts"], key=key: table.get(key) == 1)
            for port in ports:
                assert await ask(port, f"/count/{key}/") == {"n": 1, "by": owner}
                assert await ask(port, f"/reads?word={key}") == {"by": owner}
                await post_note(session, port, key, owner)


async def post_note(session: aiohttp.ClientSession, port: int, key: str, owner: int) -> None:
    """See that any body comes to the owner, and any bytes back, by whatever name it is asked."""
    url, headers = f"http://127.0.0.1:{port}/notes/{key}/", {"Host": f"worker-{port}.example"}
    async with session.post(url, data="é", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert await response.read() == f"{key} é {owner}".encode("latin-1")


async def test_a_route_to_a_worker_that_has_died_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, port, dead = Bench(), free_port(), free_port()
    app = word_count(bench, port)

    async def others(_: Any) -> list[MemberInfo]:
        url, tps = f"http://127.0.0.1:{dead}", frozenset({TP("words", 0)})
        return [MemberInfo("other", url, is_alive=True, tps=tps)]

    async with running(app), aiohttp.ClientSession() as session:
        monkeypatch.setattr("streamapp.web.router.members_of", others)
        monkeypatch.setattr(app.tables["counts"], "shards", {})
        keys = (key for key in "abcdefgh" if partition_for_key(key.encode(), 2) == 0)
        async with session.get(f"http://127.0.0.1:{port}/count/{next(keys)}/") as response:
            assert response.status == 503


@pytest.mark.parametrize("ends", ["returns", "fails", "is cancelled"])
async def test_task_that_has_read_a_stream_holds_nobody_back(ends: str) -> None:
    bench = Bench()
    app = bench.app()
    topic = app.topic("in", key_type=str, value_type=bytes, value_serializer="raw")
    out = app.topic("out", key_type=str, value_type=int)
    seen: list[int] = []
    has_one = asyncio.Event()

    @app.agent(topic)
    async def count(stream: Any) -> None:
        async for value in stream:
            seen.append(len(value))  # noqa: PERF401 - what an agent does

    async def read_one() -> None:
        async for _ in topic.stream():
            await out.send(key="k", value=1)
            has_one.set()
            if ends == "fails":
                raise LookupError(ends)
            if ends == "returns":
                return
            await asyncio.Event().wait()

    async with running(app):
        reading = asyncio.create_task(read_one())
        await until(lambda: app.engine.group.rebalances == 2)
        bench.send("in", *[b"x" * 500_000] * 30)
        await has_one.wait()
        if ends == "is cancelled":
            await until(lambda: bool(app.engine.paused))
            reading.cancel()
        await until(lambda: len(seen) == 30)
        await until(lambda: bench.position("in") == 30)
        assert [feed.name for feed in app.engine.subscriptions] == [count.name]
    assert len(bench.log("out") if "out" in bench.broker.topics() else []) == (ends == "returns")
    await asyncio.wait([reading])
