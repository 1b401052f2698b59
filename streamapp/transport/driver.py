"""Faust's Transport over one of our brokers: what ``broker="sqlite://..."`` loads.

Faust finds it through the entry point ``faust.transports``, so a plain ``faust.App`` can use it.
It must never know which broker it drives.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from faust.transport import base
from faust.types.enums import ProcessingGuarantee

from streamapp.errors import ConfigError, UnknownTopicError
from streamapp.transport.connect import open_broker
from streamapp.transport.driver_consumer import Consumer
from streamapp.transport.driver_producer import Producer
from streamapp.transport.driver_topics import Topics, topic_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from faust.types import AppT
    from yarl import URL

    from streamapp.transport.broker import Broker

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Transport(base.Transport):
    """Holds the broker that consumer and producer share; conductor and fetcher are Faust's.

    The broker opens at its first use and closes when the last of the two has stopped.
    """

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer

    default_port: ClassVar[int] = 0
    driver_version = f"streamapp={version('streamapp')}"

    def __init__(
        self,
        url: list[URL],
        app: AppT,
        **kwargs: Any,
    ) -> None:
        super().__init__(url, app, **kwargs)
        self.topics = Topics(lambda: self.broker)
        #: What a ``streamapp.App`` asks for; by default the broker's own.
        self.guarantee: str | None = None
        self._broker: Broker | None = None
        self._holders = 0
        # One thread: the calls of the event loop keep their order and need one connection.
        self._calls: ThreadPoolExecutor | None = None

    @property
    def broker(self) -> Broker:
        """The broker, opened at first use; that may block for some milliseconds."""
        if self._broker is None:
            self._refuse_transactions()
            url = self.url[0]
            # Faust splits a:1,b:2?option=value into two URLs; the options are with the last one.
            servers = ",".join(one.authority for one in self.url)
            query = "".join(f"?{one.query_string}" for one in self.url if one.query_string)
            # str(URL("sqlite://")) would lose its slashes.
            location = f"{url.scheme}://{servers}{url.path}{query}"
            self._broker = open_broker(location, self.app.conf.datadir, self.guarantee)
        return self._broker

    def _refuse_transactions(self) -> None:
        if self.app.conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
            message = f"processing_guarantee='exactly_once' does not work on {self.url[0]}"
            raise ConfigError(message, hint="leave it out, or use a streamapp.App")

    async def hold(self) -> None:
        """Keep the broker open until ``drop``."""
        await self.call(lambda: self.broker)
        self._holders += 1

    async def drop(self) -> None:
        """Close the broker after the last holder."""
        self._holders = max(self._holders - 1, 0)
        if self._holders == 0 and self._broker is not None and self._calls is not None:
            broker, self._broker = self._broker, None
            await self.call(broker.close)
            self._calls.shutdown()
            self._calls = None

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a blocking call in the transport's thread, one after another."""
        if self._calls is None:
            self._calls = ThreadPoolExecutor(1, thread_name_prefix="streamapp-broker")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._calls, lambda: function(*args, **kwargs))

    def ensure_topic(self, topic: str) -> None:
        """Create the topic with ``conf.topic_partitions`` if it does not exist. Blocks.

        Raises:
            UnknownTopicError: It does not exist and ``topic_allow_declare`` is off.
        """
        if self.topics.get(topic) is not None:
            return
        if not self.app.conf.topic_allow_declare:
            message = f"topic {topic} does not exist and topic_allow_declare is off"
            raise UnknownTopicError(message, hint="create it, or allow topics to be declared")
        self.topics.create(topic_spec(topic, self.app.conf.topic_partitions, {}))
