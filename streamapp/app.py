"""The application: declarations, and the wiring of our classes into Faust.

``App`` is a ``faust.App``: agents, timers, pages, commands and ``faust -A app worker`` work as
Faust's users expect. Below it runs our engine. All of it goes through Faust's settings, entry
points and overridable methods; nothing is patched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
from faust.app.base import BootStrategy as FaustBootStrategy
from faust.exceptions import ImproperlyConfigured, ProducerSendError
from mode.utils.objects import cached_property, canonshortname

from streamapp.core.duration import to_ms
from streamapp.core.sizes import to_bytes
from streamapp.engine.agent import Agent
from streamapp.engine.declared import (
    check_agent,
    check_broker,
    check_channel,
    check_counts,
    check_guarantee,
    check_id,
    check_known,
    check_schemes,
    check_table,
    options_of,
)
from streamapp.engine.engine import Engine, ends_the_worker
from streamapp.engine.garbage import settle_collector
from streamapp.engine.message import Event
from streamapp.engine.registry import TopicRegistry, UnusedConsumer
from streamapp.engine.replies import ReplyConsumer
from streamapp.engine.stream import Stream
from streamapp.engine.timers_declare import DeclaresTimers
from streamapp.engine.topic import DeclaresTopics
from streamapp.engine.topics import DeclaredTopic
from streamapp.errors import ConfigError, UsageError
from streamapp.pipelines.declare import DeclaresPipelines
from streamapp.state.rows import row_codec
from streamapp.state.table import Table, TableSpec
from streamapp.transport.driver import Transport

if TYPE_CHECKING:
    from streamapp.transport.broker import Broker

#: Arguments of Faust's App that are no settings.
_NO_SETTINGS = ("monitor", "config_source", "loop", "beacon")
#: What an agent takes: Faust hands on what it does not know, and over a topic nobody looks at it.
_AGENT_OPTIONS = options_of(faust.Agent.__init__, faust.App.topic, DeclaresTopics.topic) - {
    "app",
    "channel",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Our settings beside Faust's; durations in ms, sizes in bytes.

    ``state_folder`` is ``None`` when the state is kept in memory (``store="memory://"``).
    """

    commit_interval_ms: int
    store_interval_ms: int
    checkpoint_interval_ms: int
    checkpoints_kept: int
    cache_bytes: int
    batch_max: int
    standbys: int
    state_folder: Path | None


class BootStrategy(FaustBootStrategy):
    """Which services a worker starts, in order: the engine last, so that it stops first."""

    app: App

    def server(self) -> Iterable[Any]:
        """Return the services of a worker."""
        return self._chain(
            self.sensors(),
            self.kafka_producer(),
            self.web_server(),
            self.agents(),
            [self.app._reply_consumer, self.app.engine],  # noqa: SLF001 - Faust's name for it
        )

    def client_only(self) -> Iterable[Any]:
        """Return the services of a process that only asks agents."""
        return self._chain(self.kafka_producer(), [self.app._reply_consumer])  # noqa: SLF001 - see above


class App(DeclaresTopics, DeclaresTimers, DeclaresPipelines, faust.App):
    """A streaming application.

    Args:
        id: Name of the application: its group, and the prefix of its topics.
        broker: ``sqlite://`` (default: in ``datadir``), ``sqlite:///folder``, ``memory://name``,
            ``kafka://host:port,host:port``.
        datadir: Folder of all local files, ``data`` by default.
        commit_interval: How often tables, outputs and positions are committed together ("250ms").
        cache_size: Bound of the memory for all tables ("64MiB"); half for rows, half for blocks.
        batch_max: Most records of one fetch.
        checkpoint_interval: How often a checkpoint is made ("60s"); "0s" for never.
        checkpoints_kept: How many checkpoints are kept.
        standbys: How many other workers keep a copy of each partition of the tables, so that they
            take over without a restore; 0 for none.
        guarantee: "exactly_once" (outputs, tables and positions are one commit; the default but on
            Kafka), "effectively_once" (outputs leave at once and may repeat after a crash), or
            "at_least_once" (tables may count twice too). A broker may give more.
        options: Faust's settings.

    Raises:
        ConfigError: A setting is unknown or wrong.

    Example:
        >>> app = streamapp.App("shop")
        >>> orders = app.topic("orders", value_type=Order)
        >>> totals = app.Table("totals", default=float)
        >>> @app.agent(orders)
        ... async def add(stream):
        ...     async for order in stream:
        ...         totals[order.user] += order.amount
    """

    BootStrategy = BootStrategy

    def __init__(  # noqa: PLR0913 - the settings
        self,
        id: str,  # noqa: A002 - Faust's name for it
        *,
        commit_interval: Any = "250ms",
        store_interval: Any = "2s",
        cache_size: Any = "64MiB",
        batch_max: int = 5_000,
        checkpoint_interval: Any = "60s",
        checkpoints_kept: int = 3,
        standbys: int = 0,
        guarantee: str | None = None,
        **options: Any,
    ) -> None:
        check_guarantee(guarantee)
        defaults = {
            "broker": "sqlite://",
            "datadir": "data",
            "store": "rocksdb://",
            "topic_partitions": 4,
            "web_host": "127.0.0.1",
            "web_bind": "127.0.0.1",
            "Event": Event,
            "Stream": Stream,
            "Agent": Agent,
            "Topic": DeclaredTopic,
            "Worker": "streamapp.engine.faust_worker:Worker",
            "Router": "streamapp.web.router:Router",
        }
        ours = [name for name in signature(App.__init__).parameters if name != "self"]
        check_known("App", options, [*ours, *faust.Settings.SETTINGS, *_NO_SETTINGS])
        check_id(id)
        check_broker(options.get("broker"))
        # What an event sends is in its commit: Faust's own way there would never end.
        always = {"stream_publish_on_commit": False}
        super().__init__(id, **{**defaults, **options, **always})
        self._named: dict[str, Any] = {}
        self._guarantee = guarantee
        self._given = sorted(options)
        #: The port that the application asks for; known before its settings are complete.
        self.given_web_port: int | None = options.get("web_port")
        self.given_web_enabled: bool | None = options.get("web_enabled")
        self._own = {
            "commit_interval_ms": to_ms(commit_interval),
            "store_interval_ms": to_ms(store_interval),
            "checkpoint_interval_ms": to_ms(checkpoint_interval),
            "checkpoints_kept": checkpoints_kept,
            "cache_bytes": to_bytes(cache_size),
            "batch_max": batch_max,
            "standbys": standbys,
        }
        # Without checkpoints (an interval of 0) or standbys the worker is as correct as with them.
        for name, value in self._own.items():
            least = 0 if name in {"checkpoint_interval_ms", "standbys"} else 1
            check_counts("App", {name: value}, least)

    # --- our parts -------------------------------------------------------------------------------

    @cached_property
    def options(self) -> Options:
        """Our settings, complete once the application is configured."""
        in_memory = self.conf.store.scheme == "memory"
        folder = None if in_memory else Path(self.conf.datadir) / self.conf.id
        return Options(**self._own, state_folder=folder)

    @cached_property
    def engine(self) -> Engine:
        """What reads, commits and keeps the tables."""
        return Engine(self, beacon=self.beacon)

    @property
    def broker(self) -> Broker:
        """The broker; opened at first use."""
        broker: Broker = self.transport.broker
        return broker

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The tables by name."""
        return {}

    @cached_property
    def topics(self) -> TopicRegistry:
        """The topics that streams read."""
        return TopicRegistry()

    @cached_property
    def consumer(self) -> UnusedConsumer:
        """Faust's seam for acknowledgements; ours are positions of the engine."""
        return UnusedConsumer()

    @cached_property
    def _reply_consumer(self) -> ReplyConsumer:
        return ReplyConsumer(self, beacon=self.beacon)

    # --- declarations ----------------------------------------------------------------------------

    def agent(self, channel: Any = None, *, on_error: Any = None, **options: Any) -> Any:
        """Declare an agent; see Faust's ``App.agent`` for the rest.

        Args:
            channel: Topic (or its name, or a channel) that the agent reads.
            on_error: What becomes of an event that fails: an ``ErrorPolicy``, one of "retry" (for
                ever), "dead_letter", "skip", "stop" (each at once), or a coroutine function
                ``(agent, exc)`` that is told of each failure. Default: three more tries, then the
                dead-letter topic.
            options: ``name``, ``concurrency``, ``sink`` and Faust's others.

        Raises:
            ConfigError: No ``async def`` of one argument, an unknown option, or its name is taken.
        """
        check_channel(channel)
        text = options.pop("help", None)
        handler = on_error if callable(on_error) else None
        policy = None if callable(on_error) else on_error

        def declare(fun: Any) -> Agent:
            name = options.get("name") or canonshortname(fun)
            check_agent(name, fun, self.agents)
            check_known(f"Agent {name}", options, _AGENT_OPTIONS, "See docs/agents.md")
            check_counts(f"Agent {name}", {"concurrency": options.get("concurrency", 1)})
            make = super(App, self).agent(channel, policy=policy, **options)
            agent: Agent = make(fun)
            if handler is not None:
                agent.add_error_handler(handler)
            agent.help = text or agent.help
            return agent

        return declare

    def Table(  # noqa: N802, PLR0913 - Faust's name and signature
        self,
        name: str,
        *,
        default: Callable[[], Any] | None = None,
        key_type: Any = Any,
        value_type: Any = Any,
        partitions: int | None = None,
        ttl: Any = None,
        help: str | None = None,  # noqa: A002 - Faust's name for it
        **unknown: Any,
    ) -> Table:
        """Declare a table.

        Args:
            name: Its name, unique in the application; part of its changelog's name.
            default: Makes the value of an absent row on reading, e.g. ``int``.
            key_type: Type of the keys; plain types need none.
            value_type: Type of the values: a ``Record`` comes back as one.
            partitions: As many as the topics have from whose events it is written.
            ttl: Life of a row after its last write, in event time ("1h").
            help: What the table holds.
            unknown: Faust's other options, which are refused.

        Raises:
            ConfigError: The name is taken, or an option is wrong or not supported.
        """
        check_table(name, default, value_type, partitions, self.tables)
        if unknown:
            msg = f"Table {name}: {', '.join(sorted(unknown))} is not supported"
            raise ConfigError(msg, hint="Supported: default, key_type, value_type, partitions, ttl")
        ttl_ms = None if ttl is None else to_ms(ttl)
        codec = row_codec(value_type, is_timed=ttl_ms is not None)
        spec = TableSpec(name, default, key_type, value_type, partitions, ttl_ms, help or "")
        table = self.tables[name] = Table(spec, codec)
        return table

    async def send(self, channel: Any, *args: Any, **kwargs: Any) -> Any:
        """Send to a channel, a topic, or the name of one; see Faust's ``App.send``."""
        if isinstance(channel, str):
            channel = self._named.get(channel) or self._named.setdefault(
                channel, self.topic(channel)
            )
        return await super().send(channel, *args, **kwargs)

    def GlobalTable(self, *_: Any, **__: Any) -> Any:  # noqa: N802 - Faust's name
        """Refuse: there are no global tables."""
        raise _unsupported("GlobalTable", "a Table, and read it over the API of any worker")

    def SetTable(self, *_: Any, **__: Any) -> Any:  # noqa: N802 - Faust's name
        """Refuse: there are no set tables."""
        raise _unsupported("SetTable", "Table(..., value_type=set[str], default=set)")

    def SetGlobalTable(self, *_: Any, **__: Any) -> Any:  # noqa: N802 - Faust's name
        """Refuse: there are no global set tables."""
        raise _unsupported("SetGlobalTable", "a Table")

    # --- what Faust asks -------------------------------------------------------------------------

    async def on_first_start(self) -> None:
        """Open the broker before anything that needs it; make no folders of Faust's."""
        with ends_the_worker():
            await self.transport.hold()

    async def on_shutdown(self) -> None:
        """Close the broker."""
        await self.transport.drop()

    async def on_start(self) -> None:
        """Finish the configuration, and let channels flow: Faust's consumer would do that."""
        self.finalize()
        self.flow_control.resume()

    async def on_started(self) -> None:
        """Settle the collector of a process that is a worker."""
        await super().on_started()
        if self.on_startup_finished is not None:
            settle_collector()

    async def on_stop(self) -> None:
        """End what is not a service of its own."""
        await self.on_before_shutdown.send()
        if self._producer is not None and self._producer.started:
            try:
                await self._producer_flush(self.log)
            except ProducerSendError as exc:
                # Its sender was told; the engine still has to commit and to leave.
                self.log.error("%s", exc)  # noqa: TRY400
        await self._maybe_close_http_client()

    def _load_settings(self, *, silent: bool = False) -> Any:
        try:
            settings = super()._load_settings(silent=silent)
        except (ImproperlyConfigured, TypeError, ValueError) as exc:
            msg = f"App: a setting is wrong: {exc}"
            raise ConfigError(msg, hint=f"Look at {', '.join(self._given)}") from exc
        check_schemes(str(settings.broker_consumer[0].scheme), str(settings.store.scheme))
        return settings

    def _new_transport(self) -> Any:
        """Return our transport: to Faust ``kafka://`` is that of its own driver."""
        transport = Transport(self.conf.broker_consumer, self)
        transport.guarantee = self._guarantee
        return transport

    def _new_producer_transport(self) -> Any:
        """Return the one transport: two would be two brokers, with connections of their own."""
        return self.transport

    def _new_web(self) -> Any:
        """Return Faust's web server with our views."""
        from streamapp.web.server import Web  # noqa: PLC0415 - only a worker needs a web server

        return Web(self)

    async def _wait_for_table_recovery_completed(self) -> bool:
        """Wait until the tables are restored; ``True`` if the worker stops before."""
        if self.producer_only or self.client_only:
            return False
        return bool(await self.wait_for_stopped(self.engine.is_ready))

    async def start_client(self) -> None:
        """Start the parts that ``ask`` needs outside of a worker."""
        self.client_only = True
        await self.maybe_start()

    def is_leader(self) -> bool:
        """Tell whether this worker is the one that does what only one may do."""
        return self.engine.is_leader


def _unsupported(what: str, instead: str) -> UsageError:
    return UsageError(f"{what} is not supported", hint=f"Use {instead}")
