"""The topics that the application reads and writes: created, counted, checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from streamapp.core.batch import TP, OutRecord
from streamapp.core.duration import to_ms
from streamapp.core.limits import NO_LIMITS, Limits
from streamapp.engine.declared import check_known
from streamapp.engine.outlet import Outlet
from streamapp.engine.topic import Topic
from streamapp.errors import ConfigError, PartitionMismatchError, UnknownTopicError
from streamapp.state.changelog import changelog_topic
from streamapp.transport.broker import TopicInfo, TopicSpec
from streamapp.transport.driver_topics import kafka_config, topic_spec
from streamapp.transport.partitioner import StickyChooser, partition_for_key

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.subscriptions import Subscriptions

#: What a topic takes under Kafka's names.
_CONFIG = ("cleanup.policy", "retention.ms", "retention.bytes")


class Topics:
    """Partition counts by topic, and the choice of a partition."""

    def __init__(self, app: App) -> None:
        self.counts: dict[str, int] = {}
        #: What each topic takes, where its broker has told.
        self.limits: dict[str, Limits] = {}
        self._app = app
        self._sticky = StickyChooser()
        #: The ways to topics that were sent to.
        self._outlets: dict[str, Outlet] = {}
        self._lock = asyncio.Lock()

    async def declare(self, subscriptions: Subscriptions) -> None:
        """Create the dead-letter topic and the topics that are read and do not exist.

        Raises:
            PartitionMismatchError: A topic exists with another number of partitions than declared.
        """
        # Dead letters are kept until someone has dealt with them.
        name = f"{self._app.conf.id}-dead-letters"
        await self._create(TopicSpec(name, 1, retention_ms=None))
        for topic in self._app.topics:
            for one in topic.topics:
                if one in subscriptions.topics:
                    await self.ensure(topic, one)

    async def ensure(self, topic: Topic, name: str = "") -> int:
        """Return the number of partitions of a topic, which is created if it may be."""
        name = name or topic.get_topic_name()
        known = self.counts.get(name)
        if known is not None:
            return known
        async with self._lock:
            if name not in self.counts:
                await self._ensure(topic, name)
        return self.counts[name]

    async def outlet(self, topic: Topic) -> Outlet:
        """Return the way to a topic, which is created if it may be; it is the same for good."""
        name, partitions = topic.get_topic_name(), await self.ensure(topic)
        if name not in self._outlets:
            limits = self.limits.get(name, NO_LIMITS)
            self._outlets[name] = Outlet(name, partitions, limits, self._sticky)
        return self._outlets[name]

    async def _ensure(self, topic: Topic, name: str) -> None:
        conf = self._app.conf
        existing = (await self._app.engine.call(self._app.broker.topics)).get(name)
        if existing is None and not conf.topic_allow_declare:
            msg = f"Topic {name} does not exist"
            raise UnknownTopicError(msg, hint="Create it, or set topic_allow_declare=True")
        if existing is not None and topic.partitions in (None, existing.spec.partitions):
            self._note(existing)
            return
        await self._create(_spec(topic, name, topic.partitions or conf.topic_partitions))

    async def _create(self, spec: TopicSpec) -> None:
        self._note(await self._app.engine.call(self._app.broker.create_topic, spec))

    def _note(self, info: TopicInfo) -> None:
        self.counts[info.spec.name] = info.spec.partitions
        self.limits[info.spec.name] = info.limits

    def note_counts(self, counts: Mapping[str, int]) -> None:
        """Take how many partitions topics have by now.

        Raises:
            PartitionMismatchError: They are others than at the start, and there are tables: which
                worker has which of their partitions follows from the counts of topics.
        """
        changed = {
            name: count for name, count in counts.items() if self.counts.get(name, count) != count
        }
        for name, count in changed.items():
            if self._app.tables or self._app.pipelines:
                msg = f"Topic {name} has {count} partitions now, and had {self.counts[name]} before"
                raise PartitionMismatchError(
                    msg, hint="Start the worker again: it tells whether the tables still fit"
                )
        self.counts.update(changed)

    async def look_again(self) -> None:
        """Ask what topics take: one has refused what it should have taken."""
        infos = await self._app.engine.call(self._app.broker.topics)
        for name in self.limits.keys() & infos.keys():
            self.limits[name] = infos[name].limits
            if name in self._outlets:
                self._outlets[name].set_limits(infos[name].limits)
        for table in self._app.tables.values():
            name = changelog_topic(self._app.conf.id, table.name, table.partitions).name
            if name in infos:
                table.max_bytes = infos[name].limits.max_bytes

    def check_one(self, record: OutRecord) -> None:
        """Do as ``check`` for one record, at a fifth of its cost."""
        limits = self.limits.get(record.tp.topic)
        if limits is not None:
            limits.check(record, time.time_ns() // 1_000_000)

    def check(self, records: Sequence[OutRecord]) -> None:
        """Refuse what the broker would refuse; the records are of one topic.

        Raises:
            InputError: One of them is too large, has no key, or is of the future.
        """
        limits = self.limits.get(records[0].tp.topic, NO_LIMITS) if records else NO_LIMITS
        if limits is not NO_LIMITS:
            now_ms = time.time_ns() // 1_000_000
            limits.check_all(records, now_ms)

    def choose(self, topic: str, key: bytes | None, partitions: int) -> int:
        """Return the partition of a record: by its key, as every Kafka client does."""
        if key is None:
            return self._sticky.choose(topic, partitions)
        return partition_for_key(key, partitions)

    def check_tables(self, app: App) -> None:
        """Refuse a table that an agent names but whose partitions are not those of its topics.

        Finds the tables that an agent's function refers to as globals or closures; others are
        checked at their first write.

        Raises:
            PartitionMismatchError: With both numbers.
        """
        by_identity = {id(table): table for table in app.tables.values()}
        for agent in app.agents.values():
            names = agent.channel.topics if agent.is_ours else ()
            counts = {name: self.counts[name] for name in names if name in self.counts}
            for table in (by_identity.get(id(used)) for used in _references(agent.fun)):
                if table is None:
                    continue
                for name, count in counts.items():
                    if count != table.partitions and not _regroups(agent.fun):
                        msg = (
                            f"Agent {agent.name} writes table {table.name} with "
                            f"{table.partitions} partitions from topic {name} with {count}"
                        )
                        raise PartitionMismatchError(
                            msg, hint="Declare both with the same partitions=, or use group_by"
                        )


def _references(function: Any) -> list[Any]:
    function = unwrap(function)
    code = function.__code__
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return [function.__globals__.get(name) for name in code.co_names] + cells


def _regroups(function: Any) -> bool:
    return bool({"group_by", "through"} & set(unwrap(function).__code__.co_names))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _spec(topic: Topic, name: str, partitions: int) -> TopicSpec:
    options = kafka_config(None, compacting=topic.compacting, deleting=topic.deleting)
    if topic.retention is not None:
        options["retention.ms"] = to_ms(topic.retention)
    return topic_spec(name, partitions, options | dict(topic.config))


class DeclaredTopic(Topic):
    """A topic that the application declares: it refuses options that could not be met later."""

    def __init__(
        self,
        app: App,
        *,
        topics: Sequence[str] | None = None,
        retention: Any = None,
        config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take Faust's arguments; ``retention`` may be text ("1h").

        Raises:
            ConfigError: An option is wrong; names it and its value.
        """
        whose = f"Topic {', '.join(topics or ())}"
        try:
            if retention is not None:
                to_ms(retention)
        except ConfigError as exc:
            msg = f"{whose}: retention: {exc.message}"
            raise ConfigError(msg, hint=exc.hint) from exc
        _check_config(f"{whose}: config", config or {})
        super().__init__(app, topics=topics, retention=retention, config=config, **kwargs)


def _check_config(whose: str, config: Mapping[str, Any]) -> None:
    """Check the options of a topic that have Kafka's names.

    Raises:
        ConfigError: One is not known, or has no meaning.
    """
    check_known(whose, config, _CONFIG, f"Supported: {', '.join(_CONFIG)}")
    for name, value in config.items():
        if name == "cleanup.policy":
            if not {*str(value).split(",")} <= {"compact", "delete"}:
                msg = f"{whose}: {name}={value!r}"
                raise ConfigError(msg, hint='Write "delete", "compact" or "compact,delete"')
        elif not str(value).removeprefix("-").isdecimal():
            msg = f"{whose}: {name}={value!r}"
            raise ConfigError(msg, hint="It must be a whole number; -1 for no bound")


def all_partitions(counts: dict[str, int], topics: set[str]) -> list[TP]:
    """Return the partitions of topics, for status pages."""
    return [TP(name, number) for name in sorted(topics) for number in range(counts.get(name, 0))]
