"""Agents that read what no program should send: ``faust -A support.bad_input_app worker``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import streamapp

app = streamapp.App(
    "bad",
    datadir=os.environ["BAD_DATADIR"],
    topic_partitions=1,
    topic_allow_declare=False,
    commit_interval="20ms",
)


class Order(streamapp.Record):
    """What most records should be."""

    id: int
    amount: float = 0.0
    note: str = ""


done = app.topic("done")
totals = app.Table("totals", key_type=str)
counts = app.Table("counts", key_type=str, value_type=int)


orders = app.topic("orders", value_type=Order)


@app.agent(orders, name="typed")
async def typed(stream: streamapp.Stream) -> None:
    """Answer each order with its number."""
    async for order in stream:
        await done.send(value=["typed", order.id])


@app.agent(orders, name="wide", concurrency=3)
async def wide(stream: streamapp.Stream) -> None:
    """Answer each order with its number, several at a time."""
    async for order in stream:
        await done.send(value=["wide", order.id])


@app.agent(orders, name="grouped")
async def grouped(stream: streamapp.Stream) -> None:
    """Answer each order with its number, several together."""
    async for group in stream.take(5, within=0.01):
        for order in group:
            await done.send(value=["grouped", order.id])


@app.agent(app.topic("anything", value_type=Any), name="open")
async def anything(stream: streamapp.Stream) -> None:
    """Answer each document with its kind and size."""
    async for value in stream:
        size = len(value) if isinstance(value, (str, list, dict)) else value
        await done.send(value=["open", type(value).__name__, size])


@app.agent(app.topic("keyed", key_type=int, value_type=Order), name="keyed")
async def keyed(stream: streamapp.Stream) -> None:
    """Answer each record with its key."""
    async for key, order in stream.items():
        await done.send(value=["keyed", key, order.id])


@app.agent(
    app.topic("deeds", value_type=str),
    name="doer",
    on_error=streamapp.ErrorPolicy(retries=1, backoff_ms=1),
)
async def doer(stream: streamapp.Stream) -> None:
    """Do what the record says; what it does before must leave no trace if that fails."""
    async for deed in stream:
        counts["deeds"] = counts.get("deeds", 0) + 1
        if deed != "good":
            await done.send(value=["doer", "begun", deed])
        await _do(deed)
        await done.send(value=["doer", deed, counts["deeds"]])


def _store(key: Any, value: Any) -> None:
    totals[key] = value


def _add_to_an_absent_row() -> None:
    totals["absent"] += 1


def _store_under_another_type() -> None:
    counts["a"] = "one"


class _Mute(Exception):  # noqa: N818 - that it has no words is the point
    def __str__(self) -> str:
        raise ValueError


def _fail(exc: BaseException) -> None:
    raise exc


_LOOP: list[Any] = []
_LOOP.append(_LOOP)

_DEEDS: dict[str, Callable[[], Any]] = {
    "good": lambda: None,
    "store NaN": lambda: _store("a", float("nan")),
    "store an object": lambda: _store("a", object()),
    "store what contains itself": lambda: _store("a", _LOOP),
    "store under a lone surrogate": lambda: _store("\ud800", 1),
    "store under NaN": lambda: _store(float("nan"), 1),
    "store a lone surrogate": lambda: _store("a", "\ud800"),
    "store another type": _store_under_another_type,
    "read an absent row": _add_to_an_absent_row,
    "fail with a lone surrogate": lambda: _fail(ValueError("\ud800")),
    "fail with a long text": lambda: _fail(ValueError("x" * (9 << 20))),
    "fail without words": lambda: _fail(_Mute()),
    "be cancelled": lambda: _fail(asyncio.CancelledError()),
    "send NaN": lambda: done.send(value=float("nan")),
    "send to an unknown partition": lambda: done.send(value=1, partition=9),
    "send to an unknown topic": lambda: app.topic("nowhere").send(value=1),
}


async def _do(deed: str) -> None:
    result = _DEEDS[deed]()
    if result is not None:
        await result
