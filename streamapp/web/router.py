"""Which worker answers for a key: what is behind ``app.table_route`` and ``app.topic_route``.

Never answers for partitions that are not restored here. Who has which partition is read from the
broker, when a request comes for a key of another worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from aiohttp import ClientError
from faust.app import router
from faust.exceptions import SameNode
from faust.web.exceptions import ServiceUnavailable
from yarl import URL

from streamapp.core.batch import TP
from streamapp.engine.states import EngineState
from streamapp.errors import UsageError
from streamapp.serde.codecs import key_encoder
from streamapp.transport.partitioner import partition_for_key
from streamapp.web.worker import members_of

if TYPE_CHECKING:
    from faust.types.web import Request, Response
    from faust.types.web import Web as FaustWeb

    from streamapp.app import App
    from streamapp.engine.topic import Topic


log = logging.getLogger(__name__)

#: Headers between two programs: of the way to this worker, not to the next one. A worker answers to
#: its own name alone.
_OF_A_HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "expect"})
#: Seconds that another worker may take: the broker gives partitions of a dead one away before.
_PATIENCE_S = 30.0


class Router(router.Router):
    """Faust's router over our group. The text of a request is a key as text."""

    app: App

    def __init__(self, app: App) -> None:
        self.app = app

    async def route_req(
        self, table_name: str, key: object, web: FaustWeb, request: Request
    ) -> Response:
        """Let the worker answer that has the rows of a key.

        Raises:
            SameNode: It is this one.
            ServiceUnavailable: For now it is nobody.
        """
        self._require_running()
        table, counts = self.app.tables[table_name], self.app.engine.topics.counts
        number = partition_for_key(_raw(key, table.spec.key_type), table.partitions)
        if number in table.shards:
            raise SameNode

        def is_its(tp: TP) -> bool:
            return tp.partition == number and counts.get(tp.topic) == table.partitions

        return await self._pass_on(is_its, web, request)

    async def route_topic_req(
        self, topic: Topic, key: object, web: FaustWeb, request: Request
    ) -> Response:
        """Let the worker answer that reads the partition of a key; raises as ``route_req``."""
        self._require_running()
        name = topic.get_topic_name()
        count = await self.app.engine.topics.ensure(topic)
        wanted = TP(name, partition_for_key(_raw(key, topic.key_type), count))
        if wanted in self.app.engine.owned:
            raise SameNode
        return await self._pass_on(lambda tp: tp == wanted, web, request)

    async def _pass_on(
        self, is_its: Callable[[TP], bool], web: FaustWeb, request: Request
    ) -> Response:
        members = await members_of(self.app)
        url = next((each.url for each in members if any(map(is_its, each.tps))), None)
        # Its own partitions a worker has in hand: it would ask itself for ever.
        if url is None or URL(url) == self.app.conf.canonical_url:
            raise ServiceUnavailable
        return await self._answer_of(URL(url), web, request)

    async def _answer_of(self, worker: URL, web: FaustWeb, request: Request) -> Response:
        """Let a worker answer; one that has just died, or is stuck, is as good as nobody."""
        url = request.url.with_scheme(worker.scheme).with_host(worker.host or "")
        headers = [pair for pair in request.headers.items() if pair[0].lower() not in _OF_A_HOP]
        # Without a body none is announced: a worker would wait for it.
        body = await request.read() or None
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self.app.http_client.request(
                    request.method, url.with_port(worker.port), headers=headers, data=body
                ) as response,
            ):
                kind = response.headers.get("Content-Type", "application/octet-stream")
                data = await response.read()
                return web.bytes(data, status=response.status, headers={"Content-Type": kind})
        except (ClientError, TimeoutError) as exc:
            log.warning("%s does not answer %s: %s", worker, request.path, str(exc) or "too slow")
            raise ServiceUnavailable from exc

    def _require_running(self) -> None:
        if self.app.engine.phase is not EngineState.RUNNING:
            raise ServiceUnavailable

    def _refuse(self, *_: object) -> NoReturn:
        msg = "app.router knows no places of keys"
        raise UsageError(msg, hint="Use app.table_route, or GET /api/v1/tables/{table}")

    key_store = external_topic_key_store = _refuse
    table_metadata = tables_metadata = external_topics_metadata = _refuse


def _raw(key: object, key_type: object) -> bytes:
    """Return the bytes of a key in topics; the text of a number is that of its key."""
    return key.encode() if isinstance(key, str) else key_encoder(key_type)(key)
