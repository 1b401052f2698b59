"""A Kafka cluster as a broker.

What it promises: what ``Broker`` does, with these differences. An ``append`` of several records is
checked whole (their partitions exist) and then written record by record: after an error some may be
there. Offsets rise and have holes, because a commit takes some for itself (``transactions``).
"""

from __future__ import annotations

import logging
import threading
import uuid
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from streamapp.errors import BrokerError, BrokerUnavailableError, DeniedError
from streamapp.transport.kafka.cluster import Cluster
from streamapp.transport.kafka.failures import failure
from streamapp.transport.kafka.feeder import Feeder, Subscription
from streamapp.transport.kafka.groups import client_id
from streamapp.transport.kafka.guarantees import InOneStep, OutputsAtOnce, WithoutTransactions
from streamapp.transport.kafka.member import KafkaMember
from streamapp.transport.kafka.options import WITHOUT_TRANSACTIONS
from streamapp.transport.kafka.outputs import Outputs
from streamapp.transport.kafka.reader import KafkaReader
from streamapp.transport.kafka.records import Delivery
from streamapp.transport.kafka.takeover import transactional_id
from streamapp.transport.kafka.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import TopicPartition

    from streamapp.core.batch import TP, OutRecord
    from streamapp.transport.broker import (
        GroupInfo,
        MemberInfo,
        OffsetRange,
        Position,
        TopicInfo,
        TopicSpec,
    )
    from streamapp.transport.kafka.guarantees import Commits
    from streamapp.transport.kafka.options import KafkaOptions

log = logging.getLogger(__name__)

#: Seconds that an append may take; librdkafka itself gives up records after five minutes.
_APPEND_S = 60.0


class KafkaBroker:
    """A ``Broker`` over a cluster; any number of objects and processes may use it."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: Nothing answers there; the message says why.
            ConfigError: librdkafka knows no such setting.
        """
        self._cluster = Cluster(options)
        self._lock = threading.Lock()
        self._appending = threading.Lock()
        # Now, because it takes half a second until it is ready.
        self._producer: Producer | None = self._cluster.clients.producer()
        self._users: list[KafkaMember | KafkaReader] = []
        self._is_closed = False

    def create_topic(self, spec: TopicSpec) -> TopicInfo:
        """See ``Broker.create_topic``; compacted topics keep records whole for ten minutes.

        Raises:
            ConfigError: The cluster has too few brokers for ``replication``.
        """
        return self._cluster.topics.create(spec)

    def topics(self) -> Mapping[str, TopicInfo]:
        """See ``Broker.topics``; those with our prefix, without Kafka's own."""
        return self._cluster.topics.all()

    def offsets(self, tps: Iterable[TP]) -> dict[TP, OffsetRange]:
        """See ``Broker.offsets``; ``end`` is the high watermark, beyond open transactions."""
        return self._cluster.topics.offsets(tps)

    def append(self, records: Sequence[OutRecord]) -> list[int]:
        """See ``Broker.append``, and the module for what an error leaves.

        Raises:
            TooLargeError: The topic or the cluster takes no record of this size.
        """
        if not records:
            return []
        self._cluster.topics.require(record.tp for record in records)
        self._cluster.topics.own_limits.check_all(records, 0)
        # One at a time: a flush waits for the records of all callers.
        with self._appending:
            producer = self._opened()
            delivery = Delivery(producer, self._cluster.names)
            try:
                delivery.send(records)
                left = producer.flush(_APPEND_S)
            except KafkaException as exc:
                producer.flush(_APPEND_S)
                raise failure(exc, "an append", self._cluster.trouble) from exc
            if delivery.error is not None or left:
                self._discard()
            if delivery.error is not None:
                self._cluster.clients.note_refusal(delivery.error)
                doing = f"an append to {delivery.topic}"
                raise failure(delivery.error, doing, self._cluster.trouble)
            if left:
                msg = f"The cluster took no records for {_APPEND_S:.0f} s"
                raise BrokerUnavailableError(msg, hint="Some of them may be there")
            return delivery.offsets(records)

    def _opened(self) -> Producer:
        if self._producer is None:
            self._producer = self._cluster.clients.producer()
        return self._producer

    def _discard(self) -> None:
        """Drop the producer: records that failed must not be sent after all."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException):  # it may not write: others have been told, if they tried
                producer.purge()
                producer.close()

    def reader(self) -> KafkaReader:
        """See ``Broker.reader``."""
        cluster = self._cluster
        with self._lock:
            self._require_open()
            consumer = cluster.clients.reader()
            reader = KafkaReader(consumer, cluster.names, cluster.topics.offsets, cluster.trouble)
            self._use(reader)
            return reader

    def join(self, group: str, topics: Iterable[str], url: str = "") -> KafkaMember:
        """See ``Broker.join``; topics that do not exist yet are assigned when they appear.

        Raises:
            DeniedError: The cluster would not let this worker do its work.
        """
        self._require_open()
        cluster = self._cluster
        member_id = cluster.clients.options.instance_id or uuid.uuid4().hex[:12]
        wanted = Subscription(group, frozenset(topics))
        commits = self._commits(
            member_id,
            wanted,
            lambda places, limit_s: member.store(places, limit_s),  # noqa: PLW0108 - `member` comes to be here
        )
        self._check_rights(wanted, commits)
        with self._lock:
            self._require_open()
            theirs = cluster.names.theirs(group)
            consumer = cluster.clients.member(theirs, client_id(member_id, url))
            member = KafkaMember(
                member_id,
                cluster.names,
                commits,
                cluster.topics.require,
                lambda member: Feeder(member, consumer, cluster, wanted),
            )
            self._use(member)
            return member

    def _check_rights(self, wanted: Subscription, commits: Commits) -> None:
        cluster, own = self._cluster, f"{wanted.group}-"
        topics = {tp.topic for tp in cluster.topics.tps()}
        cluster.rights.check(wanted.group, wanted.topics, {t for t in topics if t.startswith(own)})
        try:
            commits.open()
        except DeniedError as exc:
            commits.close()
            lacking = cluster.rights.lacking("transactional id", f"{own}*", ["Write"])
            raise lacking from exc
        except BrokerError as exc:
            log.info("Commits are not ready yet: %s", exc)  # the member tries again

    def _commits(
        self,
        member_id: str,
        wanted: Subscription,
        store: Callable[[list[TopicPartition], float], bool],
    ) -> Commits:
        clients, names = self._cluster.clients, self._cluster.names
        guarantee = clients.options.guarantee
        if guarantee == WITHOUT_TRANSACTIONS:
            return WithoutTransactions(Outputs(clients, names), store, clients.trouble)
        name = transactional_id(names.prefix, wanted.group, member_id)
        transactions = Transactions(clients, names, name)
        if guarantee == "exactly_once":
            return InOneStep(transactions)
        own = f"{wanted.group}-"
        return OutputsAtOnce(
            transactions,
            Outputs(clients, names),
            lambda topic: topic in wanted.topics or topic.startswith(own),
        )

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """See ``Broker.committed``; waits for a commit that is being written."""
        return self._cluster.positions.committed(group, tps)

    def members(self, group: str) -> tuple[MemberInfo, ...]:
        """See ``Broker.members``; all of them count as alive until their sessions end."""
        return self._cluster.groups.members(group)

    def groups(self) -> Mapping[str, GroupInfo]:
        """See ``Broker.groups``; Kafka tells nobody outside of a group its generation: 0."""
        return self._cluster.groups.all()

    def close(self) -> None:
        """See ``Broker.close``; its members leave their groups."""
        with self._lock, ExitStack() as closing:
            self._is_closed = True
            closing.callback(self._cluster.close)
            closing.callback(self._discard)
            # All of them, in reverse order, even if one of them fails.
            for user in self._users:
                closing.callback(user.close if isinstance(user, KafkaReader) else user.leave)
            self._users = []

    def _require_open(self) -> None:
        if self._is_closed:
            raise self._cluster.clients.closed()

    def _use(self, user: KafkaMember | KafkaReader) -> None:
        self._users = [one for one in self._users if not one.is_closed] + [user]
