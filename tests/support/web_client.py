"""Workers in this process, over a memory broker, and what a test asks them over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from support.web_app import Total, WebApp, make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mode import ServiceT


#: What an answer holds: each test knows its shape.
Json: TypeAlias = Any

DEADLINE_S = 30.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Client:
    """What a test asks a worker."""

    def __init__(self, app: WebApp, session: aiohttp.ClientSession) -> None:
        self.app = app
        self.base = f"http://127.0.0.1:{app.conf.web_port}"
        self._session = session

    def fetch(self, path: str, method: str = "GET", **options: object) -> Json:
        return self._session.request(method, self.base + path, **options)

    async def get(self, path: str, status: int = 200, **params: str) -> Json:
        async with self.fetch(path, params=params) as response:
            text = await response.text()
            assert response.status == status, text
            kind = "problem+json" if status >= 400 else "json"
            assert response.headers["Content-Type"] == f"application/{kind}"
            return json.loads(text)

    async def until(self, path: str, is_good: Callable[[Any], bool]) -> Json:
        async def look() -> Json:
            async with self.fetch(path) as response:
                return await response.json(content_type=None)

        return await eventually(look, is_good)

    async def series(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return the samples of /metrics by name and label values in the labels' order."""
        async with self.fetch("/metrics") as response:
            text = await response.text()
        return {
            (
                sample.name,
                tuple(sample.labels[name] for name in sorted(sample.labels)),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def send(self, topic: str, key: str, value: Json, partition: int | None = None) -> None:
        kind = Total if topic == "orders" else int
        to = self.app.topic(topic, key_type=str, value_type=kind)
        await to.send(key=key, value=value, partition=partition)

    async def row(self, table: str, key: str) -> Json:
        """Wait until the row is there."""
        return await self.until(f"/api/v1/tables/{table}/keys/{key}", lambda got: "value" in got)


async def eventually(look: Callable[[], Awaitable[Any]], is_good: Callable[[Any], bool]) -> Json:
    deadline = time.monotonic() + DEADLINE_S
    while not is_good(value := await look()):
        assert time.monotonic() < deadline, value
        await asyncio.sleep(0.02)  # between two looks
    return value


@asynccontextmanager
async def started(service: ServiceT, app: WebApp) -> AsyncIterator[Client]:
    app.finalize()
    await service.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(app, session)
    finally:
        await service.stop()


def new_app(broker: str = "", **options: object) -> WebApp:
    broker = broker or f"memory://{uuid4().hex}"
    return make_app(broker=broker, store="memory://", web_port=free_port(), **options)


@asynccontextmanager
async def worker(broker: str = "", **options: object) -> AsyncIterator[Client]:
    app = new_app(broker, **options)
    async with started(app, app) as client:
        await client.until("/readyz", lambda got: got["status"] == "ready")
        yield client
