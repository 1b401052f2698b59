"""A program whose tables the web tests read: ``python -m faust -A support.web_app worker``.

Also imported by the tests themselves, which run it in their own process over ``memory://``.
"""

from __future__ import annotations

import asyncio
import os

import streamapp


class Total(streamapp.Record):
    """What a user has bought; ``id`` may be greater than JavaScript can count."""

    count: int = 0
    id: int = 0
    note: str = ""


class WebApp(streamapp.App):
    """``release`` lets the events go on that wait in the middle."""

    def __init__(self, name: str, **options: object) -> None:
        super().__init__(name, **options)
        self.release = asyncio.Event()


def make_app(**options: object) -> WebApp:
    """Return the application; each call makes a new one."""
    app = WebApp("web-test", topic_partitions=2, commit_interval="20ms", **options)
    _add_orders(app)
    _add_waits(app)
    _add_pages(app)
    return app


def _add_orders(app: streamapp.App) -> None:
    orders = app.topic("orders", key_type=str, value_type=Total)
    totals = app.Table("totals", key_type=str, value_type=Total, help="By user")
    by_number = app.Table("by_number", key_type=int, value_type=int)
    anything = app.Table("anything", default=int)

    @app.agent(orders, on_error="dead_letter", name="add")
    async def add(stream: streamapp.Stream) -> None:
        async for user, order in stream.items():
            if order.note == "fail":
                raise ValueError(order.note)
            if order.note == "delete":
                del totals[user]
                continue
            totals[user] = order
            by_number[order.count] = order.count * 2
            for key in (user, order.count, (user, order.count), "", "a/b", True):
                anything[key] = order.count


def _add_waits(app: WebApp) -> None:
    held = app.Table("held", key_type=str, value_type=int)

    @app.agent(app.topic("waits", key_type=str, value_type=int), name="wait")
    async def wait(stream: streamapp.Stream) -> None:
        async for user, number in stream.items():
            held[user] = number
            if number < 0:
                await app.release.wait()


def _add_pages(app: streamapp.App) -> None:
    @app.page("/hello")
    async def hello(page: object, request: object) -> object:  # noqa: ARG001 - Faust's signature
        return page.text("hello")  # type: ignore[attr-defined]

    @app.page("/livez")
    async def livez(page: object, request: object) -> object:  # noqa: ARG001 - Faust's signature
        return page.text("mine")  # type: ignore[attr-defined]

    # The last one: the router would refuse a second route right behind it.
    @app.page("/api/v1")
    async def index(page: object, request: object) -> object:  # noqa: ARG001 - Faust's signature
        return page.text("mine too")  # type: ignore[attr-defined]


if "WEB_TEST_DATADIR" in os.environ:
    app = make_app(
        datadir=os.environ["WEB_TEST_DATADIR"], web_port=int(os.environ["WEB_TEST_PORT"])
    )
