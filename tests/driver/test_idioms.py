"""Faust's ways of writing streams, each in a worker of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.engine_app import Bench, running, until
from support.idioms import FaustOrder, Order, put, values

import streamapp
from streamapp.errors import UsageError


@pytest.fixture
def bench() -> Bench:
    return Bench()


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


async def test_record_is_sent_on_as_it_is(bench: Bench) -> None:
    app = bench.app()
    typed = app.topic("typed", key_type=str, value_type=dict[str, int])

    @app.agent(app.topic("in", key_type=str, value_type=dict[str, int]))
    async def pass_on(stream: Any) -> None:
        async for event in stream.events():
            await event.forward(typed)
            await event.forward("untyped")
            await event.forward(typed, key=f"{event.key}!")
            await event.forward(typed, value={"a": 2})
            await typed.send(key=event.key, value=event.value)

    async with running(app):
        bench.send("in", b'{"a":  1}')
        await until(lambda: bench.position("in") == 1)
    keys, data = [b"k", b"k!", b"k", b"k"], [b'{"a":  1}', b'{"a":  1}', b'{"a":2}', b'{"a":1}']
    assert bench.log("typed") == [*zip(keys, data, strict=True)]
    assert bench.log("untyped") == [(b"k", b'{"a":  1}')]


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


async def test_other_forms_of_take_lose_nothing_when_the_agent_fails(bench: Bench) -> None:
    app = bench.app()
    topic = app.topic("in", value_type=dict[str, Any])
    stamped, taken = app.Table("stamped", default=list), app.Table("taken", default=list)
    left = [ConnectionError("not yet"), ConnectionError("not yet")]

    @app.agent(topic)
    async def stamp(stream: Any) -> None:
        async for group in stream.take_with_timestamp(2, 0.2, timestamp_field_name="at"):
            stamped["all"] += group
            if left:
                raise left.pop()

    @app.agent(topic)
    async def take(stream: Any) -> None:
        async for events in stream.noack_take(2, 0.2):
            taken["all"] += [event.value["n"] for event in events]
            if left:
                raise left.pop()

    async with running(app):
        put(bench, "in", *((None, {"n": number}) for number in range(3)))
        await until(lambda: bench.position("in") == 3)
    rows = [{"n": number, "at": 1.0} for number in range(3)]
    assert json.loads(bench.rows("stamped")[b"@all"] or b"") == rows
    assert json.loads(bench.rows("taken")[b"@all"] or b"") == [0, 1, 2]


async def test_streams_that_would_be_read_in_part_are_refused(bench: Bench) -> None:
    app = bench.app()
    stream, other = app.stream(app.topic("in")), app.stream(app.topic("other"))
    with pytest.raises(UsageError, match=r"in cannot be combined.*app\.topic\('a', 'b'\)"):
        _ = stream & other
    with pytest.raises(UsageError, match=r"in cannot be joined.*app\.pipeline"):
        stream.left_join(FaustOrder.user)


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
