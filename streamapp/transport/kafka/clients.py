"""Makes librdkafka's clients for one cluster: what all of them share, and what each kind needs.

Nothing of them reaches stderr: their lines go to this module's logger at the level DEBUG, and why
a cluster cannot be reached is remembered in ``trouble`` for the errors that are raised.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streamapp.errors import BrokerError
from streamapp.transport.kafka.failures import Trouble, failure
from streamapp.transport.kafka.security import Tokens, check_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.transport.kafka.options import KafkaOptions

log = logging.getLogger(__name__)

#: Beats of a session: how often a member asks whether its group rebalances.
_BEATS = 30

#: Bytes of a batch: librdkafka's default, and what is as good as one record for each.
_MOST_BATCH = 1_000_000
_LEAST_BATCH = 1_000

_SHARED: dict[str, object] = {
    "log.connection.close": False,  # brokers close idle connections all the time
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 500,  # ms; a broker that is back is seen soon
    # ms that a broker may take to answer, and to open a connection: one whose power was cut tells
    # nobody, and the defaults (60 and 30 s) would wait for it.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 10_000,
    "api.version.request.timeout.ms": 5_000,
}
_READING: dict[str, object] = {
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    # ms for which a full local queue stops the fetcher: the default costs 9/10 of the speed.
    "fetch.queue.backoff.ms": 10,
    # Records and kB fetched ahead: full speed, and a bound of memory for a slow reader.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32_768,
    # Bytes of one answer: on a slow line it arrives before the broker counts as silent.
    "fetch.max.bytes": 8 << 20,
    # ms that a fetch waits for records: how late the end of a partition is seen.
    "fetch.wait.max.ms": 100,
    # ms after which a topic that was not there is looked for again.
    "topic.metadata.refresh.interval.ms": 5_000,
}
_WRITING: dict[str, object] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": 1,  # ms; a call waits for its records, so they never gather for long
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
    # ms between two looks who leads the partitions. One that has nothing to send to a leader that
    # died would look at its next record only, and need two seconds then.
    "topic.metadata.refresh.interval.ms": 1_000,
}


class _Quiet:
    """Takes the lines of librdkafka, which come twenty a second while a broker is down."""

    def log(self, level: int, message: str, *args: object) -> None:
        log.debug(message, *args, extra={"librdkafka_level": level})


class Clients:
    """Makes clients; whoever asked for one closes it."""

    def __init__(self, options: KafkaOptions) -> None:
        """Look up what the options name.

        Raises:
            ConfigError: No function of that name brings tokens, or a file is not there.
            BrokerUnavailableError: It brings none.
        """
        self.options = options
        self.trouble = Trouble(options.servers)
        self._batch_bytes = int(options.settings.get("batch.size", _MOST_BATCH))
        security = options.security
        self.settings: dict[str, object] = {
            **security.settings,
            **options.settings,
            **security.secrets,
        }
        check_files(self.settings)
        if security.token:
            tokens = Tokens(security.token, self.trouble.note_token)
            # Each client would wait for ten seconds, and say that it has waited.
            tokens.check(options.settings.get("sasl.oauthbearer.config", ""))
            self.settings["oauth_cb"] = tokens

    def _complete(self, kind: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
        return {
            **_SHARED,
            **kind,
            "bootstrap.servers": self.options.servers,
            "client.id": "streamapp",
            "logger": _Quiet(),
            "error_cb": self.trouble.note,
            **self.settings,
            **own,
        }

    def admin(self, own: Mapping[str, object] | None = None) -> AdminClient:
        """Return a client for topics, offsets and groups."""
        try:
            return AdminClient(self._complete({}, own or {}))  # type: ignore[arg-type] # callbacks too
        except KafkaException as exc:
            raise failure(exc, "opening a client") from exc

    def reader(self) -> Consumer:
        """Return a consumer that joins no group and tells where partitions end."""
        own = {
            "group.id": "streamapp-reader",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        return self._consumer(own)

    def member(self, group: str, client_id: str) -> Consumer:
        """Return a consumer that may join a group; every position is named by a seek."""
        options = self.options
        own: dict[str, object] = {
            "group.id": group,
            "client.id": client_id,
            "auto.offset.reset": "error",
            "group.protocol": options.protocol,
            "max.poll.interval.ms": max(options.rebalance_timeout_ms, options.session_timeout_ms),
        }
        if options.instance_id:
            own["group.instance.id"] = options.instance_id
        if options.protocol == "classic":
            own["session.timeout.ms"] = options.session_timeout_ms
            own["heartbeat.interval.ms"] = max(options.session_timeout_ms // _BEATS, 1)
            own["partition.assignment.strategy"] = "range"
        else:
            own["group.remote.assignor"] = "range"
        return self._consumer(own)

    def asker(self, group: str, *, is_stable: bool) -> Consumer:
        """Return a consumer that asks for positions of a group and joins nothing.

        With ``is_stable`` it waits for commits that are open.
        """
        level = "read_committed" if is_stable else "read_uncommitted"
        return self._consumer({"group.id": group, "isolation.level": level})

    def _consumer(self, own: Mapping[str, object]) -> Consumer:
        try:
            return Consumer(self._complete(_READING, own))
        except KafkaException as exc:
            raise failure(exc, "opening a consumer") from exc

    def closed(self) -> BrokerError:
        """Return the error of whoever asks a broker that is closed."""
        return BrokerError(f"The broker of {self.options.servers} is closed")

    def note_refusal(self, error: KafkaError | None) -> None:
        """Send smaller batches from now on, if the cluster refuses one that is too large.

        Topics differ in what they take, and librdkafka fills batches whatever their topic is: many
        small records would be refused together. Producers that are open go on as before.
        """
        if error is None or error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return
        self._batch_bytes = max(self._batch_bytes // 4, _LEAST_BATCH)
        log.warning("A batch was too large for its topic: batch.size=%d", self._batch_bytes)

    def producer(self, own: Mapping[str, object] | None = None) -> Producer:
        """Return an idempotent producer; with ``transactional.id`` one that commits."""
        try:
            own = {"batch.size": self._batch_bytes, **(own or {})}
            return Producer(self._complete(_WRITING, own))
        except KafkaException as exc:
            raise failure(exc, "opening a producer") from exc
