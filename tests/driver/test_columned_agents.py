"""Agents over records that are read as columns: events, lists and batches are those of objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from support.compiled import needs_reader
from support.engine_app import Bench, running, until

import streamapp
from streamapp.serde import columnar
from streamapp.transport.broker import TopicSpec

pytestmark = needs_reader


class Order(streamapp.Record):
    user: str
    amount: int
    price: float | None = None


ORDERS = [Order(f"u{n % 7}", n, n / 4 if n % 5 else None) for n in range(300)]
SUMS = Counter[str]()
for each in ORDERS:
    SUMS[each.user] += each.amount


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.broker.create_topic(TopicSpec("in", 1))
    made.send("in", *map(msgspec.json.encode, ORDERS))
    return made


@pytest.fixture(autouse=True)
def _reads() -> Iterator[None]:
    """Every test here has to meet columns, or it would show nothing."""
    read = columnar.PlainReader.columns
    with patch.object(columnar.PlainReader, "columns", autospec=True, side_effect=read) as spy:
        yield
    assert spy.called


def sums(bench: Bench) -> dict[str, int]:
    return {key[1:].decode(): int(value) for key, value in bench.rows("sums").items()}


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_value_that_was_changed_is_that_of_its_record_when_the_event_runs_again(
    bench: Bench, concurrency: int
) -> None:
    app = bench.app()
    table, failures = app.Table("sums", default=int), [OSError("once")] * 3
    topic = app.topic("in", value_type=Order)

    @app.agent(topic)
    async def reads_columns(stream: Any) -> None:
        async for batch in stream.batches():
            batch.amount  # noqa: B018 - asked for, so that there are columns

    @app.agent(topic, concurrency=concurrency)
    async def adds(stream: Any) -> None:
        async for order in stream:
            order.amount += 1
            if order.user == "u3" and failures:
                raise failures.pop()
            table[order.user] += order.amount - 1

    async with running(app):
        await until(lambda: bench.position("in") == len(ORDERS))
    assert sums(bench) == SUMS


async def test_lists_of_take_are_lists_and_run_again_as_they_were(bench: Bench) -> None:
    app = bench.app()
    table, failures, kinds = app.Table("sums", default=int), [OSError("once")], set[type]()

    @app.agent(app.topic("in", value_type=Order))
    async def adds(stream: Any) -> None:
        async for orders in stream.take(100, within=0.1):
            kinds.add(type(orders))
            for order in orders:
                order.amount += 1
                table[order.user] += order.amount - 1
            if failures:
                raise failures.pop()

    async with running(app):
        await until(lambda: bench.position("in") == len(ORDERS))
    assert (sums(bench), kinds) == (SUMS, {list})


@pytest.mark.parametrize("bad", [False, True])
async def test_batches_by_columns_are_those_of_records(bench: Bench, bad: bool) -> None:
    if bad:
        bench.send("in", b'{"user":"u1","amount":1.5}', b'{"user":"q\\"q","amount":2}')
    app = bench.app()
    table, failures = app.Table("sums", default=int), [OSError("once")]
    found: list[tuple[Any, ...]] = []

    @app.agent(app.topic("in", value_type=Order), on_error=streamapp.ErrorPolicy(retries=1))
    async def adds(stream: Any) -> None:
        async for batch in stream.batches(max_rows=128):
            table.add(batch.user, batch.amount)
            if failures:
                raise failures.pop()
            few = batch.where(batch.amount > 100)
            kinds = batch.amount.dtype.name, batch.price.dtype.name, batch.user.dtype.name
            assert kinds == ("int64", "float64", "object")
            assert batch.price.mask.tolist() == [order.price is None for order in batch]
            assert few.user.tolist() == [order.user for order in few.records]
            assert batch.slots("user").keys == [*dict.fromkeys(batch.user.tolist())]
            found.extend(zip(few.user.tolist(), few.amount.tolist(), strict=True))

    async with running(app):
        await until(lambda: bench.position("in") == len(ORDERS) + 2 * bad)
    assert sums(bench) == SUMS + Counter({'q"q': 2} if bad else {})
    assert sorted(found) == sorted((one.user, one.amount) for one in ORDERS if one.amount > 100)
