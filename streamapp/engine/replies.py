"""Answers of agents to ``agent.ask``: read outside of the group, from the moment of asking on."""

from __future__ import annotations

import asyncio
import logging
from threading import Event
from typing import TYPE_CHECKING, Any

from faust.agents.replies import ReplyConsumer as FaustReplyConsumer

from streamapp.core.batch import TP, RecordBatch
from streamapp.errors import StreamappError
from streamapp.serde.codecs import Bad
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.topic import Topic
    from streamapp.transport.broker import Reader

log = logging.getLogger(__name__)

#: Seconds between two polls of a broker that fails.
_PAUSE_S = 0.5


class ReplyConsumer(FaustReplyConsumer):
    """Fulfils the promises of this process; the reply topic has one partition."""

    app: App

    def __init__(self, app: App, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._ended = Event()
        self._threads: list[asyncio.Future[None]] = []
        self._is_holding = False

    async def on_start(self) -> None:
        """Nothing yet: the first ``ask`` starts reading."""

    async def on_stop(self) -> None:
        """End the reading threads."""
        self._ended.set()
        if self._is_holding:
            await asyncio.gather(*self._threads, return_exceptions=True)
            await self.app.transport.drop()

    async def listen(self, topic_name: str) -> None:
        """Read a reply topic from now on; returns when that has begun."""
        await self._start_fetcher(topic_name)

    async def _start_fetcher(self, topic_name: str) -> None:
        beginning = self._fetchers.get(topic_name)
        if beginning is None:
            beginning = asyncio.ensure_future(self._begin(topic_name))
            self._fetchers[topic_name] = beginning
        try:
            # Whoever comes second waits as well: an answer before the beginning would be missed.
            await asyncio.shield(beginning)
        except Exception:
            self._fetchers.pop(topic_name, None)
            raise

    async def _begin(self, topic_name: str) -> None:
        topic = self._reply_topic(topic_name)
        if not self._is_holding:
            self._is_holding = True
            await self.app.transport.hold()
        loop = asyncio.get_running_loop()
        began: asyncio.Future[None] = loop.create_future()
        retention_ms = round(self.app.conf.reply_expires * 1_000)
        spec = TopicSpec(topic_name, 1, retention_ms=retention_ms)
        reading = loop.run_in_executor(None, self._read, topic, spec, began)
        await asyncio.wait({began, reading}, return_when=asyncio.FIRST_COMPLETED)
        if not began.done():
            await reading  # which raises why
        self._threads.append(reading)

    def _read(self, topic: Topic, spec: TopicSpec, began: asyncio.Future[None]) -> None:
        tp = TP(spec.name, 0)
        broker = self.app.broker
        broker.create_topic(spec)
        reader = broker.reader()
        try:
            reader.assign({tp: broker.offsets([tp])[tp].end})
            self.loop.call_soon_threadsafe(began.set_result, None)
            while not self._ended.is_set():
                self._pass_on(reader, topic)
        finally:
            reader.close()

    def _pass_on(self, reader: Reader, topic: Topic) -> None:
        try:
            batches = reader.poll(0.2, 1_000)
        except StreamappError as exc:
            log.error("No answers for now: %s. Trying again", exc)  # noqa: TRY400
            self._ended.wait(_PAUSE_S)
            return
        for batch in batches:
            self.loop.call_soon_threadsafe(self._fulfil, topic, batch)

    def _fulfil(self, topic: Topic, batch: RecordBatch) -> None:
        for reply in topic.decode_batch(batch).values:
            if reply.__class__ is Bad:
                continue
            # The first answer to a question counts: an agent may yield several.
            for promise in self._waiting.pop(reply.correlation_id, ()):
                if not promise.done():  # whoever has asked may have given up
                    promise.fulfill(reply.correlation_id, reply.value)
