"""The commit as one Kafka transaction: records and positions, whole or not at all.

The order is fixed: first all records are in the log, then the group's coordinator takes the
positions (it refuses a member that is out of the group: the fence), then the transaction ends. So
whoever owns a partition next, and reads the log to its end and then the position, finds both or
none: a commit that came before its assignment is in the log, and a later one is refused.

A commit takes offsets: one for its end in each partition that it wrote to, and some if it is
refused. So offsets have holes, and a partition may end with one.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from streamapp.errors import (
    BrokerFullError,
    BrokerUnavailableError,
    FencedError,
    InputError,
    StreamappError,
    UnknownTopicError,
)
from streamapp.faults import crash_point
from streamapp.transport.kafka.bounded import Bounded
from streamapp.transport.kafka.failures import CALL_S, FENCES, error_of, failure
from streamapp.transport.kafka.records import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Producer, TopicPartition

    from streamapp.core.batch import OutRecord
    from streamapp.transport.kafka.clients import Clients
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.names import Names

log = logging.getLogger(__name__)

#: ms after which the cluster ends a transaction whose worker says no more. Longer than the death
#: of a broker takes, shorter than readers like to wait for a dead worker's records.
TIMEOUT_MS = 20_000
#: Errors of a connection.
_BREAKS = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001 - public names
#: What librdkafka calls a server of the URL that no broker has named yet: never a coordinator.
_UNNAMED = "/bootstrap: "
#: Seconds between two looks whether a commit is still wanted.
_LOOK_S = 0.1
#: Seconds after which the outcome of a commit counts as unknown.
_PATIENCE_S = TIMEOUT_MS / 1_000 + 10


class Transactions:
    """Commits of one member, one at a time, by one transactional producer.

    ``transactional_id`` is the same over restarts of a worker with a name of its own: opening ends
    what the one before it left half written.
    """

    def __init__(self, clients: Clients, names: Names, transactional_id: str) -> None:
        self._clients = clients
        self._names = names
        self._id = transactional_id
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._connection = Connection(clients.trouble)
        self._abandoned = threading.Event()

    def open(self) -> None:
        """Make the producer, and end what another one of the same name left open.

        Raises:
            BrokerError: The cluster refuses or cannot be reached.
        """
        with self._lock:
            self._open()

    def _open(self) -> Producer:
        if self._producer is not None:
            self._producer.poll(0)  # tells the connection's errors
        if self._connection.is_doubtful:
            self.discard()
        if self._producer is None:
            self._connection = Connection(self._trouble)
            self._producer = open_producer(self._clients, self._id, self._connection)
        return self._producer

    def claim(self, positions: list[TopicPartition], metadata: object) -> None:
        """Commit positions alone; raises what ``commit`` does."""
        if positions:
            self.commit([], positions, metadata)

    def commit(
        self, records: Sequence[OutRecord], positions: list[TopicPartition], metadata: object
    ) -> list[int]:
        """Commit; return the offset of each record.

        Args:
            records: Their partitions exist.
            positions: As the coordinator shall keep them; with none there is no fence.
            metadata: The consumer's ``consumer_group_metadata`` of the generation that counts.

        Raises:
            FencedError: The member is out of its group; nothing was written.
            BrokerFullError: The cluster did not take it; nothing was written.
            BrokerUnavailableError: What became of the commit is not known. The cluster is asked
                to end it at the next ``open``; readers wait until then.
        """
        with self._lock:
            self._abandoned.clear()
            producer = self._open()
            delivery = Delivery(producer, self._names)
            try:
                producer.begin_transaction()
                delivery.send(records)
                self._flush(producer, delivery)
                crash_point("kafka.between")
                if positions:
                    self._send_positions(producer, positions, metadata)
                crash_point("kafka.positions")
            except (KafkaException, StreamappError) as exc:
                raise self._abort(producer, exc, delivery.topic) from exc
            self._end(producer)
            return delivery.offsets(records)

    def _flush(self, producer: Producer, delivery: Delivery) -> None:
        try:
            left = producer.flush(_PATIENCE_S)
        except SystemError as exc:  # the binding (2.16) lost the error of a callback
            lost = KafkaError(KafkaError._PURGE_QUEUE)  # noqa: SLF001 - its public name
            if (cause := _cause(producer, lost)) is not lost:
                raise KafkaException(cause) from exc
            self._connection.is_doubtful = True
            msg = "Waiting for the cluster to take records was broken off"
            raise BrokerUnavailableError(msg) from exc
        self._require_wanted()
        if delivery.error is not None:
            raise KafkaException(_cause(producer, delivery.error))
        if left:
            msg = f"The cluster took no records for {_PATIENCE_S:.0f} s"
            raise BrokerUnavailableError(msg)

    def _send_positions(
        self, producer: Producer, positions: list[TopicPartition], metadata: object
    ) -> None:
        if self._connection.is_doubtful:
            msg = "The connection to the cluster was lost"
            raise BrokerUnavailableError(msg)
        call = Bounded(lambda: producer.send_offsets_to_transaction(positions, metadata, CALL_S))
        deadline = time.monotonic() + 2 * CALL_S
        while not (is_done := call.ends_within(_LOOK_S)) and time.monotonic() < deadline:
            self._require_wanted()
        if not is_done:
            self._connection.is_doubtful = True
            msg = f"The cluster took no positions for {2 * CALL_S:.0f} s"
            raise BrokerUnavailableError(msg)

    def _require_wanted(self) -> None:
        if self._abandoned.is_set():
            self._connection.is_doubtful = True
            msg = "The member lost its partitions during a commit"
            raise FencedError(msg, hint="Drop the state of those partitions")

    def abandon(self) -> None:
        """Give up a commit that is under way, and the connection: the member is out of its group.

        What is being waited for may never come, as from a broker whose power was cut.
        """
        self._abandoned.set()
        producer = self._producer
        self._connection.is_doubtful = True
        if producer is not None:
            producer.purge()

    def _abort(self, producer: Producer, exc: Exception, topic: str = "") -> StreamappError:
        """End the transaction with nothing written, and return what to raise.

        ``topic`` is whose records were refused, if any were.
        """
        error, doing = error_of(exc), f"a commit to {topic}" if topic else "a commit"
        raised = exc if isinstance(exc, StreamappError) else failure(exc, doing, self._trouble)
        if self._connection.is_doubtful:
            self.discard()  # the next one ends it
        else:
            try:
                producer.purge()
                producer.abort_transaction(CALL_S)
            except KafkaException:
                self.discard()
        if isinstance(raised, FencedError):
            self.discard()
            return raised
        may_heal = error is None or error.retriable() or error.txn_requires_abort()
        if not may_heal or isinstance(raised, InputError | UnknownTopicError):
            self._clients.note_refusal(error)
            self.discard()
            return raised
        return BrokerFullError(f"{raised.message} (nothing was written)", hint="It is tried again")

    def _end(self, producer: Producer) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                producer.commit_transaction(CALL_S)
            except KafkaException as exc:
                error = error_of(exc)
                if error is not None and error.retriable() and time.monotonic() < deadline:
                    continue  # the same call goes on with the same commit
                if error is not None and error.txn_requires_abort():
                    raise self._abort(producer, exc) from exc
                self.discard()
                if error is not None and error.code() in FENCES:
                    raise failure(exc, "the end of a commit", self._trouble) from exc
                with suppress(StreamappError):
                    self._open()  # ends it either way: whoever reads next finds it decided
                msg = f"What became of a commit is not known: {exc}"
                raise BrokerUnavailableError(
                    msg, hint="The state is rebuilt from what the cluster has"
                ) from exc
            else:
                return

    @property
    def _trouble(self) -> Trouble:
        return self._clients.trouble

    def discard(self) -> None:
        """Drop the producer: after some errors it never works again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            _drop(producer)

    def close(self) -> None:
        """Release everything; waits for a commit that is under way. Safe to repeat."""
        with self._lock:
            self.discard()


class Connection:
    """What a producer's errors say about its connection.

    librdkafka (2.16) remembers the coordinator of a group as a connection, and waits for that one
    without end when the coordinator is back by another: a producer is not used beyond a break.
    """

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self.is_doubtful = False

    def note(self, error: KafkaError) -> None:
        """Take an error, which librdkafka tells in a poll or a flush."""
        self._trouble.note(error)
        self.is_doubtful |= error.code() in _BREAKS and _UNNAMED not in error.str()


def open_producer(
    clients: Clients, transactional_id: str, connection: Connection | None = None
) -> Producer:
    """Return a transactional producer; whoever had its name before is fenced, and its commit ended.

    Raises:
        BrokerError: The cluster refuses or cannot be reached.
    """
    connection = connection or Connection(clients.trouble)
    producer = clients.producer(
        {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TIMEOUT_MS,
            "error_cb": connection.note,
        }
    )
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            # A connection first: without one librdkafka looks again after half a second.
            producer.list_topics(timeout=CALL_S)
            producer.init_transactions(CALL_S)
        except KafkaException as exc:
            error = error_of(exc)
            if error is not None and error.retriable() and time.monotonic() < deadline:
                continue
            with suppress(KafkaException):  # its last error once more
                producer.poll(0)
            _drop(producer)
            raise failure(exc, "opening transactions", clients.trouble) from exc
        else:
            connection.is_doubtful = False
            return producer


def abort_left_open(clients: Clients, transactional_id: str) -> None:
    """End what a dead worker left open, so that readers need not wait for its time-out."""
    try:
        _drop(open_producer(clients, transactional_id))
    except StreamappError as exc:
        log.info("The transaction of %s ends by its time-out: %s", transactional_id, exc)


def _cause(producer: Producer, error: KafkaError) -> KafkaError:
    """Return why records of a transaction were refused; of those that it dropped it knows more."""
    if error.code() == KafkaError._PURGE_QUEUE:  # noqa: SLF001 - its public name
        try:
            producer.begin_transaction()  # which is not possible now, and says why
        except KafkaException as exc:
            found = error_of(exc)
            if found is not None and found.code() != KafkaError._STATE:  # noqa: SLF001 - as above
                return found
    return error


def _drop(producer: Producer) -> None:
    # Not `close`: that ends a transaction once more, and warns of those which were fenced. What is
    # open ends by the next producer of the name.
    with suppress(KafkaException):  # one that may not write has nothing to drop
        producer.purge()
