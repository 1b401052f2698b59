"""Answers of agents to ``agent.ask``: read outside of the group, from the moment of asking on."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import TYPE_CHECKING, Any

from faust.agents.replies import ReplyConsumer as FaustReplyConsumer

from streamapp.core.batch import TP, RecordBatch
from streamapp.serde.codecs import Bad
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.topic import Topic


class ReplyConsumer(FaustReplyConsumer):
    """Fulfils the promises of this process; the reply topic has one partition."""

    app: App

    def __init__(self, app: App, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._ended = Event()
        self._threads: list[asyncio.Future[None]] = []

    async def on_start(self) -> None:
        """Nothing yet: the first ``ask`` starts reading."""

    async def on_stop(self) -> None:
        """End the reading threads."""
        self._ended.set()
        if self._threads:
            await asyncio.gather(*self._threads)
            await self.app.transport.drop()

    async def listen(self, topic_name: str) -> None:
        """Read a reply topic from now on; returns when that has begun."""
        await self._start_fetcher(topic_name)

    async def _start_fetcher(self, topic_name: str) -> None:
        if topic_name in self._fetchers:
            return
        self._fetchers[topic_name] = None
        topic = self._reply_topic(topic_name)
        if not self._threads:
            await self.app.transport.hold()
        loop = asyncio.get_running_loop()
        began = loop.create_future()
        retention_ms = round(self.app.conf.reply_expires * 1_000)
        spec = TopicSpec(topic_name, 1, retention_ms=retention_ms)
        reading = loop.run_in_executor(None, self._read, topic, spec, began)
        self._threads.append(reading)
        await began

    def _read(self, topic: Topic, spec: TopicSpec, began: asyncio.Future[None]) -> None:
        tp = TP(spec.name, 0)
        broker = self.app.broker
        broker.create_topic(spec)
        reader = broker.reader()
        try:
            reader.assign({tp: broker.offsets([tp])[tp].end})
            self.loop.call_soon_threadsafe(began.set_result, None)
            while not self._ended.is_set():
                for batch in reader.poll(0.2, 1_000):
                    self.loop.call_soon_threadsafe(self._fulfil, topic, batch)
        finally:
            reader.close()

    def _fulfil(self, topic: Topic, batch: RecordBatch) -> None:
        for reply in topic.decode_batch(batch):
            if reply.__class__ is not Bad:
                for promise in self._waiting[reply.correlation_id]:
                    promise.fulfill(reply.correlation_id, reply.value)
