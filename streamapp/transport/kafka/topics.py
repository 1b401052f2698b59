"""Topics of the cluster: made, described, and how far their partitions reach."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec, ResourceType

from streamapp.core.batch import TP
from streamapp.core.limits import Limits
from streamapp.errors import (
    BrokerError,
    BrokerUnavailableError,
    PartitionMismatchError,
    UnknownTopicError,
)
from streamapp.transport.broker import OffsetRange, TopicInfo, TopicSpec
from streamapp.transport.kafka.failures import CALL_S, error_of, failure, is_passing, patiently

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import TopicPartition

    from streamapp.transport.kafka.admin import Admin
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.names import Names
    from streamapp.transport.kafka.options import KafkaOptions

#: ms for which compaction leaves records alone: a worker that is started again soon finds the
#: record after which its store goes on, and need not rebuild it.
_COMPACTION_LAG_MS = 600_000
#: ms for which a deleted key can still be seen to be deleted; ``state.changelog`` relies on it.
_TOMBSTONE_MS = 24 * 3_600_000
_UNBOUNDED = -1
#: Bytes of the largest record that librdkafka sends, unless it is told otherwise.
_MOST_BYTES = 1_000_000
#: What brokers write for a time that never comes.
_NEVER_MS = (1 << 63) - 1
_DENIED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED})
#: Seconds that a cluster has to answer at first, while nothing says why it does not.
_FIRST_S = 15.0
#: Seconds of one try: whoever starts a program waits for it, to see that nothing listens.
_TRY_S = 2.5
#: Seconds between two looks whether there is a reason that no waiting removes.
_SLICE_S = 0.5
#: Tries to reach a broker that the cluster names: the first may have died just now.
_TRIES = 2
#: Seconds between two looks whether partitions have leaders.
_LOOK_S = 0.02


class Topics:
    """What a broker asks the cluster about topics; thread-safe."""

    def __init__(self, admin: Admin, names: Names, options: KafkaOptions, trouble: Trouble) -> None:
        self._admin = admin
        self._names = names
        self._replication = options.replication
        #: Of the client: what no topic gets.
        self.own_limits = Limits(int(options.settings.get("message.max.bytes", _MOST_BYTES)))
        self.trouble = trouble
        self._counts: dict[str, int] = {}

    def create(self, spec: TopicSpec) -> TopicInfo:
        """See ``Broker.create_topic``; returns when the partitions have leaders."""
        have = self.all([spec.name]).get(spec.name)
        if have is None:
            self._make(spec)
            have = self._wait_for(spec.name)
        if have.spec.partitions != spec.partitions:
            msg = f"Topic {spec.name} has {have.spec.partitions} partitions"
            hint = f"{spec.partitions} were asked for; use its number or another name"
            raise PartitionMismatchError(msg, hint=hint)
        return have

    def _make(self, spec: TopicSpec) -> None:
        new = NewTopic(
            self._names.theirs(spec.name),
            spec.partitions,
            self._replication,
            config=_config_of(spec),
        )

        def make() -> None:
            try:
                self._admin.client.create_topics([new])[new.topic].result(CALL_S)
            except KafkaException as exc:
                error = error_of(exc)
                if error is None or error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

        patiently(make, f"creating topic {spec.name}", self.trouble)

    def _wait_for(self, name: str) -> TopicInfo:
        deadline = time.monotonic() + CALL_S
        while time.monotonic() < deadline:
            found = self.all([name]).get(name)
            if found is not None:
                return found
            time.sleep(_LOOK_S)
        msg = f"Topic {name} was created and has no leader after {CALL_S:.0f} s"
        raise BrokerUnavailableError(msg, hint="Do all brokers of the cluster run?")

    def all(self, wanted: Iterable[str] | None = None) -> dict[str, TopicInfo]:
        """Return topics by name: all that have the prefix, or those of ``wanted`` that exist."""
        if wanted is None:
            theirs = [name for name in self._metadata() if self._names.ours(name) is not None]
        else:
            theirs = [self._names.theirs(name) for name in wanted]
        if not theirs:
            return {}
        is_wanted = wanted is not None
        return patiently(
            lambda: self._described(theirs, is_wanted), "describing topics", self.trouble
        )

    def _described(self, theirs: list[str], is_wanted: bool) -> dict[str, TopicInfo]:
        described = self._admin.client.describe_topics(TopicCollection(theirs))
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in theirs]
        configs = self._admin.client.describe_configs(resources)
        found: dict[str, TopicInfo] = {}
        for resource in resources:
            name = resource.name
            try:
                topic = described[name].result(CALL_S)
                config = configs[resource].result(CALL_S)
            except (KafkaException, TimeoutError) as exc:
                error = error_of(exc)
                code = None if error is None else error.code()
                if code == KafkaError.UNKNOWN_TOPIC_OR_PART or (not is_wanted and code in _DENIED):
                    continue  # others' topics are nothing to us
                if is_passing(exc):
                    raise
                raise failure(exc, f"describing topic {name}", self.trouble) from exc
            if all(part.leader is not None and part.leader.id >= 0 for part in topic.partitions):
                ours = name.removeprefix(self._names.prefix)
                values = {key: entry.value for key, entry in config.items()}
                spec = _spec_of(ours, len(topic.partitions), values)
                limits = _limits_of(values, self.own_limits)
                found[ours] = TopicInfo(spec, str(topic.topic_id), limits)
        return found

    def connect(self) -> None:
        """Reach the cluster for the first time.

        Raises:
            BrokerError: It cannot be reached; the message says why.
        """
        self._ask_servers()
        for turn in reversed(range(_TRIES)):
            # The servers of the URL have answered. Those that they name themselves need not.
            asked = self._admin.client.describe_cluster(request_timeout=_TRY_S)
            try:
                asked.result(CALL_S)
            except (KafkaException, TimeoutError) as exc:
                self._admin.client.poll(0)
                if not turn:
                    raise failure(exc, "asking a broker", self.trouble) from exc
            else:
                return

    def _ask_servers(self) -> None:
        begun = time.monotonic()
        while True:
            try:
                self._metadata(_SLICE_S)
            except BrokerError:
                waited_s = time.monotonic() - begun
                is_told = self.trouble.is_known and waited_s > _TRY_S
                if self.trouble.is_final or is_told or waited_s > _FIRST_S:
                    raise
            else:
                return

    def require(self, tps: Iterable[TP]) -> None:
        """Check that all partitions exist; the cluster is asked about new ones only.

        Raises:
            UnknownTopicError: One does not.
        """
        wanted = set(tps)
        if all(tp.partition < self._counts.get(tp.topic, 0) for tp in wanted):
            return
        self._counts = {
            name.removeprefix(self._names.prefix): count for name, count in self._metadata().items()
        }
        for tp in wanted:
            if not 0 <= tp.partition < self._counts.get(tp.topic, 0):
                msg = f"There is no partition {tp.partition} of topic {tp.topic}"
                raise UnknownTopicError(msg, hint="Create the topic first")

    def counts(self, wanted: Iterable[str]) -> dict[str, int]:
        """Return how many partitions these topics have now, of those that exist."""
        found = self._metadata()
        theirs = {name: self._names.theirs(name) for name in wanted}
        return {name: found[their] for name, their in theirs.items() if their in found}

    def tps(self) -> list[TP]:
        """Return all partitions of all topics that have the prefix."""
        return [
            TP(ours, partition)
            for name, count in self._metadata().items()
            if (ours := self._names.ours(name)) is not None
            for partition in range(count)
        ]

    def _metadata(self, timeout_s: float = CALL_S) -> dict[str, int]:
        try:
            topics = self._admin.client.list_topics(timeout=timeout_s).topics
        except KafkaException as exc:
            self._admin.client.poll(0)
            raise failure(exc, "asking the cluster for its topics", self.trouble) from exc
        self._admin.client.poll(0)  # takes librdkafka's lines, which would gather
        return {
            name: len(topic.partitions) for name, topic in topics.items() if topic.error is None
        }

    def offsets(self, tps: Iterable[TP]) -> dict[TP, OffsetRange]:
        """See ``Broker.offsets``; ``end`` is the high watermark, beyond open transactions."""
        tps = list(dict.fromkeys(TP(*tp) for tp in tps))
        self.require(tps)
        if not tps:
            return {}
        places = {tp: self._names.place(tp) for tp in tps}
        return patiently(lambda: self._patient_ranges(places), "asking for offsets", self.trouble)

    def _patient_ranges(self, places: Mapping[TP, TopicPartition]) -> dict[TP, OffsetRange]:
        try:
            return self._ranges(places)
        except KafkaException as exc:
            if is_passing(exc):
                # librdkafka asks by the leaders that it knew, until somebody asks for those of now.
                self._metadata()
            raise

    def _ranges(self, places: Mapping[TP, TopicPartition]) -> dict[TP, OffsetRange]:
        level = IsolationLevel.READ_UNCOMMITTED
        first, last = (
            self._admin.client.list_offsets(
                dict.fromkeys(places.values(), spec), isolation_level=level
            )
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        ranges = {
            tp: OffsetRange(first[place].result(CALL_S).offset, last[place].result(CALL_S).offset)
            for tp, place in places.items()
        }
        if any(earliest < 0 or end < 0 for earliest, end in ranges.values()):
            raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE))
        return ranges


def _config_of(spec: TopicSpec) -> dict[str, str]:
    bounds = {"retention.ms": spec.retention_ms, "retention.bytes": spec.retention_bytes}
    config = {name: str(_UNBOUNDED if bound is None else bound) for name, bound in bounds.items()}
    config["cleanup.policy"] = ",".join(sorted(spec.cleanup))
    if "compact" in spec.cleanup:
        config["min.compaction.lag.ms"] = str(_COMPACTION_LAG_MS)
        config["delete.retention.ms"] = str(_TOMBSTONE_MS)
    return config


def _limits_of(config: Mapping[str, str | None], own: Limits) -> Limits:
    """Return what a topic takes of a client with limits of its own."""
    bounds = (own.max_bytes, int(config.get("max.message.bytes") or 0))
    ahead_ms = int(config.get("message.timestamp.after.max.ms") or _NEVER_MS)
    is_bound = ahead_ms != _NEVER_MS and config.get("message.timestamp.type") != "LogAppendTime"
    return Limits(
        min(filter(None, bounds)),
        ahead_ms if is_bound else None,
        needs_key="compact" in (config.get("cleanup.policy") or ""),
    )


def _spec_of(name: str, partitions: int, config: Mapping[str, str | None]) -> TopicSpec:
    cleanup = frozenset(filter(None, (config.get("cleanup.policy") or "").split(",")))
    bounds = (int(config.get(f"retention.{what}") or _UNBOUNDED) for what in ("ms", "bytes"))
    retention_ms, retention_bytes = (None if bound == _UNBOUNDED else bound for bound in bounds)
    return TopicSpec(name, partitions, cleanup, retention_ms, retention_bytes)
