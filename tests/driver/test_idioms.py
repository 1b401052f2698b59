"""Faust's ways of writing an application, each in a worker of its own."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import faust
import pytest
from support.engine_app import Bench, running, until

import streamapp
from streamapp.core.batch import TP, OutRecord
from streamapp.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Order(streamapp.Record):
    user: str
    amount: float = 0.0


class FaustOrder(faust.Record, serializer="json"):
    user: str
    amount: float = 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


def put(bench: Bench, topic: str, *pairs: tuple[str | None, Any], **more: Any) -> None:
    """Write records with text keys and JSON values to partition 0."""
    bench.broker.append(
        [
            OutRecord(
                TP(topic, more.get("partition", 0)),
                None if key is None else key.encode(),
                None if value is None else json.dumps(value).encode(),
                more.get("timestamp_ms", 1_000),
                more.get("headers", ()),
            )
            for key, value in pairs
        ]
    )


def values(bench: Bench, topic: str) -> list[Any]:
    if topic not in bench.broker.topics():
        return []
    return [json.loads(value or b"null") for _, value in bench.log(topic)]


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Order, FaustOrder])
async def test_records_are_values(bench: Bench, model: Any) -> None:
    app = bench.app()
    orders = app.topic("orders", key_type=str, value_type=model)
    totals = app.Table("totals", default=float)
    last = app.Table("last", value_type=model)

    @app.agent(orders)
    async def add(stream: Any) -> None:
        async for order in stream:
            assert isinstance(order, model)
            totals[order.user] += order.amount
            last[order.user] = order

    async with running(app):
        for amount in (1.0, 2.5):
            await orders.send(key="ada", value=model("ada", amount))
        await until(lambda: totals.get("ada") == 3.5)
        assert last["ada"].amount == 2.5
        assert isinstance(last["ada"], model)


async def test_untyped_json_and_keys(bench: Bench) -> None:
    app = bench.app()
    seen: list[Any] = []

    @app.agent(app.topic("in"))
    async def take(stream: Any) -> None:
        async for key, value in stream.items():
            seen.append((key, value))

    async with running(app):
        put(bench, "in", ("k", {"a": [1, None]}), (None, "text"), ("k", 2**70))
        await until(lambda: len(seen) == 3)
    assert seen == [(b"k", {"a": [1, None]}), (None, "text"), (b"k", 2**70)]


async def test_tombstones_headers_and_messages(bench: Bench) -> None:
    app = bench.app()
    seen: list[Any] = []

    @app.agent(app.topic("in", key_type=str, value_type=int, allow_empty=True))
    async def take(stream: Any) -> None:
        async for event in stream.events():
            assert event is not None
            current = stream.current_event
            seen.append(
                (event.key, event.value, event.headers, event.message.offset, current.value)
            )
            assert event.message.topic == "in"
            assert event.message.partition == 0
            assert event.message.timestamp == 1.0

    async with running(app):
        put(bench, "in", ("k", 7), headers=(("h", b"1"), ("i", b"2")))
        put(bench, "in", ("k", None))
        await until(lambda: len(seen) == 2)
    assert seen == [("k", 7, {"h": b"1", "i": b"2"}, 0, 7), ("k", None, {}, 1, None)]


# --- streams -------------------------------------------------------------------------------------


async def test_filter_enumerate_and_take(bench: Bench) -> None:  # noqa: C901 - four agents
    app = bench.app()
    seen: dict[str, list[Any]] = {"even": [], "numbered": [], "groups": [], "events": []}

    @app.agent(app.topic("in", value_type=int))
    async def even(stream: Any) -> None:
        async for value in stream.filter(lambda v: v % 2 == 0):
            seen["even"].append(value)

    @app.agent(app.topic("in", value_type=int))
    async def numbered(stream: Any) -> None:
        async for number, value in stream.enumerate():
            seen["numbered"].append((number, value))

    @app.agent(app.topic("in", value_type=int))
    async def groups(stream: Any) -> None:
        async for group in stream.filter(lambda v: v != 3).take(4, within=0.2):
            seen["groups"].append(group)

    @app.agent(app.topic("in", value_type=int), concurrency=2)
    async def events(stream: Any) -> None:
        async for group in stream.filter(lambda v: v != 3).take_events(4, within=0.2):
            seen["events"].append([(event.value, event.message.offset) for event in group])

    async with running(app):
        put(bench, "in", *((None, value) for value in range(10)))
        await until(lambda: bench.position("in") == 10)
    assert seen["even"] == [0, 2, 4, 6, 8]
    assert seen["numbered"] == [(i, i) for i in range(10)]
    assert [v for group in seen["groups"] for v in group] == [0, 1, 2, *range(4, 10)]
    assert max(map(len, seen["groups"])) > 1
    assert sorted(pair for group in seen["events"] for pair in group) == [
        (i, i) for i in range(10) if i != 3
    ]


async def test_take_waits_for_a_full_list(bench: Bench) -> None:
    app = bench.app()
    groups: list[list[int]] = []

    @app.agent(app.topic("in", value_type=int))
    async def take(stream: Any) -> None:
        async for group in stream.take(3, within=10):
            groups.append(group)  # noqa: PERF401 - what an agent does

    async with running(app):
        for value in range(6):
            put(bench, "in", (None, value))
            await asyncio.sleep(0.01)  # one fetch each
        await until(lambda: bench.position("in") == 6)
    assert groups == [[0, 1, 2], [3, 4, 5]]


class Seat(streamapp.Record):
    row: int
    user: str


def _by_row(seat: Any) -> int:
    return int(seat.row)


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("how", ["field", "name", "number", "function", "topic"])
async def test_group_by(bench: Bench, how: str, concurrency: int) -> None:
    app = bench.app(topic_partitions=3)
    model: Any = FaustOrder if how == "field" else Seat
    source = app.topic("in", key_type=bytes, value_type=model)
    by_row = app.topic("by-row", key_type=int, value_type=Seat, partitions=3)
    counts = app.Table("counts", default=int)

    @app.agent(source, concurrency=concurrency)
    async def count(stream: Any) -> None:
        grouped = {
            "field": lambda: stream.group_by(FaustOrder.user),
            "name": lambda: stream.group_by("user"),
            "number": lambda: stream.group_by("row"),
            "function": lambda: stream.group_by(lambda s: s.user.encode(), name="by-user"),
            "topic": lambda: stream.group_by(_by_row, topic=by_row),
        }[how]()
        async for event in grouped.events():
            counts[event.key] += 1
            counts["partition", event.key] = event.message.partition

    async with running(app):
        for number in range(30):
            user = f"user{number % 5}"
            value = FaustOrder(user) if how == "field" else Seat(number % 5, user)
            await source.send(value=value)
        await until(lambda: sum(v for k, v in counts.items() if type(k) is not tuple) == 30)
        found = dict(counts.items())
    keys: list[Any] = [f"user{n}" for n in range(5)]
    if how in {"number", "topic"}:
        keys = list(range(5))
    if how == "function":
        keys = [key.encode() for key in keys]
    assert {key: found[key] for key in keys} == dict.fromkeys(keys, 6)
    assert len({found["partition", key] for key in keys}) > 1


async def test_group_by_a_function_needs_a_key_of_the_sources_type(bench: Bench) -> None:
    app = bench.app()

    @app.agent(app.topic("in", value_type=Seat))
    async def count(stream: Any) -> None:
        async for _ in stream.group_by(_by_row):
            pass

    with pytest.raises(UsageError, match="cannot use 7"):
        app.stream(app.topic("in")).group_by(7)
    async with running(app):
        put(bench, "in", (None, {"row": 1, "user": "u"}))
        await until(lambda: len(bench.log("bench-dead-letters")) == 1)


async def test_through(bench: Bench) -> None:
    app = bench.app()
    middle = app.topic("middle", key_type=str, value_type=int)
    seen: list[Any] = []

    @app.agent(app.topic("in", key_type=str, value_type=int))
    async def double(stream: Any) -> None:
        async for key, value in stream.through(middle).items():
            seen.append((key, value))

    async with running(app):
        put(bench, "in", ("a", 1), ("b", 2))
        await until(lambda: len(seen) == 2)
    assert seen == [("a", 1), ("b", 2)]
    assert values(bench, "middle") == [1, 2]


async def test_break_and_go_on(bench: Bench) -> None:
    app = bench.app()
    totals = app.Table("totals", default=int)
    seen: list[int] = []

    @app.agent(app.topic("in", value_type=int))
    async def pairs(stream: Any) -> None:
        while True:
            async for value in stream:
                totals["sum"] += value
                seen.append(value)
                if len(seen) % 2 == 0:
                    break

    async with running(app):
        put(bench, "in", *((None, value) for value in range(1, 6)))
        await until(lambda: bench.position("in") == 5)
        assert totals["sum"] == 15
    assert seen == [1, 2, 3, 4, 5]


async def test_stream_of_a_task(bench: Bench) -> None:
    app = bench.app()
    topic = app.topic("in", value_type=int)
    seen: list[int] = []

    @app.task
    async def read() -> None:
        async for value in app.stream(topic):
            seen.append(value)  # noqa: PERF401 - what an agent does

    async with running(app):
        await until(lambda: "in" in bench.broker.topics())
        put(bench, "in", (None, 1), (None, 2))
        await until(lambda: seen == [1, 2])


# --- agents --------------------------------------------------------------------------------------


async def test_yield_and_sinks(bench: Bench) -> None:
    app = bench.app()
    doubled = app.topic("doubled", value_type=int)
    called: list[int] = []
    received: list[int] = []

    @app.agent(app.topic("received", value_type=int))
    async def receive(stream: Any) -> None:
        async for value in stream:
            received.append(value)  # noqa: PERF401 - what an agent does

    async def call(value: int) -> None:
        called.append(value)

    @app.agent(app.topic("in", value_type=int), sink=[doubled, receive, call])
    async def double(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            yield value * 2

    async with running(app):
        put(bench, "in", (None, 1), (None, 2))
        await until(lambda: received == [2, 4])
        await until(lambda: values(bench, "doubled") == [2, 4])
    assert called == [2, 4]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_sends_inside_of_an_event_are_one_with_it(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=int)
    tries: list[int] = []

    @app.agent(
        app.topic("in", value_type=int),
        concurrency=concurrency,
        on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1),
    )
    async def forward(stream: Any) -> None:
        async for value in stream:
            tries.append(value)
            await out.send(key="k", value=value)
            await app.send("other", key="k", value=value)
            await asyncio.sleep(0)
            if tries.count(value) < 2:
                msg = "not yet"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1), (None, 2), (None, 3), timestamp_ms=77_000)
        await until(lambda: bench.position("in") == 3)
    assert values(bench, "out") == [1, 2, 3]
    assert values(bench, "other") == [1, 2, 3]
    reader = bench.broker.reader()
    reader.assign({TP("out", 0): 0})
    assert [t for batch in reader.poll(0, 10) for t in batch.timestamps] == [77_000] * 3
    reader.close()


async def test_sends_outside_of_events(bench: Bench) -> None:
    app = bench.app()
    out = app.topic("out", key_type=str, value_type=int)
    async with running(app):
        sent = await out.send(key="k", value=1, headers={"h": b"1"}, timestamp=2.5)
        metadata = await sent
        await app.send("out", key="k", value=2)
        await out.send(key="k", value=None)
        await until(lambda: len(bench.log("out")) == 3)
    assert (metadata.topic, metadata.partition, metadata.offset) == ("out", 0, 0)
    assert bench.log("out") == [(b"k", b"1"), (b"k", b"2"), (b"k", None)]


async def test_cast_and_ask_in_the_same_worker(bench: Bench) -> None:
    app = bench.app()
    answers: list[Any] = []
    noted: list[int] = []

    @app.agent(app.topic("add", value_type=int))
    async def add(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            noted.append(value)
            yield value + 1

    @app.timer(0.05)
    async def ask() -> None:
        answers.append(await add.ask(41))

    @app.task
    async def say() -> None:
        await add.cast(1)

    async with running(app):
        await until(lambda: len(answers) >= 2)
        await until(lambda: 1 in noted)
    assert set(answers) == {42}


async def test_ask_of_a_client(bench: Bench) -> None:
    app = bench.app()

    @app.agent(app.topic("add", value_type=int))
    async def add(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            yield value + 1

    client = bench.app()

    @client.agent(client.topic("add", value_type=int), name=add.name)
    async def remote(stream: Any) -> None:
        """Only asked here."""

    async with running(app):
        await client.start_client()
        try:
            assert await asyncio.wait_for(remote.ask(41), 10) == 42
            assert [v async for v in remote.map([1, 2])] in ([2, 3], [3, 2])
            assert sorted(await remote.join([5, 6])) == [6, 7]
        finally:
            await client.stop()


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_concurrency_gives_the_sequential_result(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    state = app.Table("state", default=int)

    @app.agent(app.topic("in", value_type=int), concurrency=concurrency)
    async def fold(stream: Any) -> None:
        async for value in stream:
            before = state["x"]
            await asyncio.sleep(0.001 * (value % 3))
            state["x"] = (before * 31 + value) % 1_000_003

    expected = 0
    for value in range(30):
        expected = (expected * 31 + value) % 1_000_003
    async with running(app):
        put(bench, "in", *((None, value) for value in range(30)))
        await until(lambda: bench.position("in") == 30)
        assert state["x"] == expected


async def test_agent_over_a_channel(bench: Bench) -> None:
    app = bench.app()
    channel = app.channel(value_type=int)
    out = app.topic("out", value_type=int)
    groups: list[Any] = []

    @app.agent(channel)
    async def double(stream: Any) -> None:
        async for value in stream:
            await out.send(value=value * 2)

    other = app.channel()

    @app.agent(other)
    async def group(stream: Any) -> None:
        async for pair in stream.take(2, within=1):
            groups.append(pair)  # noqa: PERF401 - what an agent does

    async with running(app):
        await channel.send(value=4)
        await double.send(value=5)
        for value in (1, 2):
            await other.send(value=value)
        await until(lambda: values(bench, "out") == [8, 10])
        await until(lambda: groups == [[1, 2]])


async def test_agents_test_context(bench: Bench) -> None:
    app = bench.app()
    seen: list[int] = []

    @app.agent(app.topic("in", value_type=int))
    async def double(stream: Any) -> AsyncIterator[int]:
        async for value in stream:
            seen.append(value)
            yield value * 2

    async with double.test_context() as agent:
        event = await agent.put(4)
        assert agent.results[event.message.offset] == 8
    assert seen == [4]


# --- agents that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_dead_letter_tells_all(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    tries: list[int] = []
    totals = app.Table("totals", default=int)

    @app.agent(
        app.topic("in", key_type=str, value_type=int),
        concurrency=concurrency,
        name="add",
        on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1),
    )
    async def add(stream: Any) -> None:
        async for value in stream:
            tries.append(value)
            totals["sum"] += value
            if value == 2:
                msg = "bad luck"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", ("a", 1), ("b", 2), timestamp_ms=5_000, headers=(("own", b"x"),))
        bench.send("in", b"no json")
        put(bench, "in", ("d", 4))
        await until(lambda: bench.position("in") == 4)
        assert totals["sum"] == 5
    assert sorted(tries) == [1, 2, 2, 2, 4]
    reader = bench.broker.reader()
    reader.assign({TP("bench-dead-letters", 0): 0})
    (batch,) = reader.poll(0, 10)
    reader.close()
    assert list(batch.keys) == [b"b", b"k"]
    assert list(batch.values) == [b"2", b"no json"]
    assert batch.headers is not None
    first, second = (dict(headers) for headers in batch.headers)
    assert b"ValueError: bad luck" in first.pop("dead-letter-stack")
    assert first == {
        "own": b"x",
        "dead-letter-topic": b"in",
        "dead-letter-partition": b"0",
        "dead-letter-offset": b"1",
        "dead-letter-timestamp-ms": b"5000",
        "dead-letter-agent": b"add",
        "dead-letter-cause": b"ValueError: bad luck",
        "dead-letter-failures": b"3",
    }
    assert second["dead-letter-failures"] == b"1"
    assert second["dead-letter-cause"].startswith(b"DecodeError")
    assert batch.timestamps[0] == 5_000


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_skip_and_stop(bench: Bench, concurrency: int) -> None:
    app = bench.app()
    skipped: list[int] = []

    @app.agent(app.topic("in", value_type=int), on_error="skip", concurrency=concurrency)
    async def skip(stream: Any) -> None:
        async for value in stream:
            if value == 2:
                raise ValueError(value)
            skipped.append(value)

    stopped: list[int] = []

    @app.agent(app.topic("other", value_type=int), on_error="stop", concurrency=concurrency)
    async def stop(stream: Any) -> None:
        async for value in stream:
            if value == 2:
                raise ValueError(value)
            stopped.append(value)

    async with running(app):
        for topic in ("in", "other"):
            put(bench, topic, (None, 1), (None, 2), (None, 3))
        await until(lambda: bench.position("in") == 3)
        await until(lambda: bench.position("other") == 1)
        await until(lambda: stop.condition == "failed")
    assert sorted(skipped) == [1, 3]
    assert bench.position("other") == 1
    assert bench.log("bench-dead-letters") == []


async def test_failed_take_is_tried_one_by_one(bench: Bench) -> None:
    app = bench.app()
    totals = app.Table("totals", default=int)
    groups: list[list[int]] = []

    @app.agent(
        app.topic("in", value_type=int), on_error=streamapp.ErrorPolicy(retries=1, backoff_ms=1)
    )
    async def add(stream: Any) -> None:
        async for group in stream.take(3, within=0.2):
            groups.append(group)
            for value in group:
                totals["sum"] += value
                if value == 2:
                    raise ValueError(value)

    async with running(app):
        put(bench, "in", *((None, value) for value in range(1, 6)))
        await until(lambda: bench.position("in") == 5)
        assert totals["sum"] == 13
    assert groups == [[1, 2, 3], [1, 2, 3], [1], [2], [2], [3], [4, 5]]
    assert bench.log("bench-dead-letters") == [(None, b"2")]


async def test_error_handler_may_send(bench: Bench) -> None:
    app = bench.app()
    told: list[str] = []

    async def tell(agent: Any, exc: Exception) -> None:
        told.append(f"{agent.name}: {exc}")
        await app.send("errors", value=str(exc))
        if len(told) == 2:
            msg = "the handler fails too"
            raise RuntimeError(msg)

    @app.agent(app.topic("in", value_type=int), name="add", on_error=tell)
    async def add(stream: Any) -> None:
        async for value in stream:
            if value == 2 and len(told) < 2:
                msg = "bad luck"
                raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1), (None, 2), (None, 3))
        await until(lambda: bench.position("in") == 3)
        await until(lambda: len(values(bench, "errors")) == 2)
    assert told == ["add: bad luck"] * 2


async def test_what_an_agent_sends_before_its_first_event_is_sent_at_each_beginning(
    bench: Bench,
) -> None:
    app = bench.app()
    begun: list[int] = []

    @app.agent(app.topic("in"), on_error=streamapp.ErrorPolicy(retries=2, backoff_ms=1))
    async def read(stream: Any) -> None:
        begun.append(len(begun))
        await app.send("begun", value=begun[-1])
        async for _ in stream:
            msg = "bad luck"
            raise ValueError(msg)

    async with running(app):
        put(bench, "in", (None, 1))
        await until(lambda: bench.position("in") == 1)
        await until(lambda: len(begun) == 4)
        await until(lambda: values(bench, "begun") == begun)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_agent_that_pauses_before_a_retry_survives_a_rebalance(
    bench: Bench, concurrency: int
) -> None:
    fails = [True]
    seen: list[int] = []

    def program() -> streamapp.App:
        app = bench.app(topic_partitions=2)

        @app.agent(
            app.topic("in", value_type=int),
            name="read",
            concurrency=concurrency,
            on_error=streamapp.ErrorPolicy(retries=9, backoff_ms=30_000),
        )
        async def read(stream: Any) -> None:
            async for value in stream:
                seen.append(value)
                if fails[0]:
                    msg = "not yet"
                    raise ValueError(msg)

        return app

    tps = [TP("in", number) for number in range(2)]

    def done() -> int:
        return sum(position.offset for position in bench.broker.committed("bench", tps).values())

    async with running(program()):
        for tp in tps:
            put(bench, "in", (None, 1), partition=tp.partition)
        await until(lambda: 1 in seen)
        fails[0] = False
        async with running(program()):
            await until(lambda: done() == 2)
        # The first worker owns both again; its agent must still be there.
        for tp in tps:
            put(bench, "in", (None, 2), partition=tp.partition)
        await until(lambda: done() == 4)


# --- the application -----------------------------------------------------------------------------


async def test_timer_task_and_page(bench: Bench) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = bench.app(web_enabled=True, web_port=port)
    happened: list[str] = []

    @app.timer(0.01)
    async def tick() -> None:
        happened.append("tick")

    @app.task
    async def once() -> None:
        happened.append("once")

    @app.page("/count/")
    async def count(self: Any, request: Any) -> Any:
        assert request.method == "GET"
        return self.json({"ticks": happened.count("tick")})

    async with running(app), aiohttp.ClientSession() as session:
        await until(lambda: happened.count("tick") > 2)
        async with session.get(f"http://127.0.0.1:{port}/count/") as response:
            assert response.status == 200
            assert (await response.json())["ticks"] > 2
    assert happened.count("once") == 1


@pytest.mark.parametrize("name", ["GlobalTable", "SetTable", "SetGlobalTable"])
def test_tables_that_are_not_offered_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        getattr(bench.app(), name)("t")


def test_windows_are_refused(bench: Bench) -> None:
    table = bench.app().Table("t", default=int)
    for declare in (lambda: table.tumbling(10), lambda: table.hopping(10, 5)):
        with pytest.raises(UsageError, match="ttl"):
            declare()
