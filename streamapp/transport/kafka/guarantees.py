"""How a member commits, by the guarantee that the application asked for.

| | changelogs, what the application reads itself, positions | other outputs |
| --- | --- | --- |
| ``exactly_once`` | one transaction | in it |
| ``effectively_once`` | one transaction | at once, and there before it ends |
| ``at_least_once`` | records, then positions | at once, and there before the positions |
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import KafkaException

from streamapp.errors import BrokerFullError, BrokerUnavailableError
from streamapp.transport.kafka.failures import CALL_S, error_of, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import TopicPartition

    from streamapp.core.batch import OutRecord
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.outputs import Outputs
    from streamapp.transport.kafka.transactions import Transactions


class Commits(Protocol):
    """How a member writes. ``commit`` is called by one thread, ``send`` by the event loop."""

    def open(self) -> None:
        """Be ready to commit."""

    def claim(self, positions: list[TopicPartition], metadata: object) -> None:
        """Commit positions as they are, for the name in their notes."""

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """Send at once what need not wait for a commit; return the rest."""

    def commit(
        self, records: Sequence[OutRecord], positions: list[TopicPartition], metadata: object
    ) -> list[int]:
        """Write records and positions; return the offset of each record."""

    def abandon(self) -> None:
        """Drop what is under way: the member is out of its group. Called by any thread."""

    def close(self) -> None:
        """Release everything; safe to repeat."""


class InOneStep:
    """``exactly_once``: all in the transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self.open = transactions.open
        self.claim = transactions.claim
        self.commit = transactions.commit
        self.abandon = transactions.abandon
        self.close = transactions.close

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """See ``Commits.send``: all wait."""
        return records


class OutputsAtOnce:
    """``effectively_once``: tables and what they are made of in the transaction.

    ``is_ours`` tells topics of the application itself: a record that left early, and was sent once
    more after a crash, would be counted twice by whoever reads it there.
    """

    def __init__(
        self, transactions: Transactions, outputs: Outputs, is_ours: Callable[[str], bool]
    ) -> None:
        self._transactions = transactions
        self._outputs = outputs
        self._is_ours = is_ours
        self.open = transactions.open
        self.claim = transactions.claim

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """See ``Commits.send``: our own topics wait."""
        ours = {topic for topic in {record.tp.topic for record in records} if self._is_ours(topic)}
        if not ours:
            self._outputs.send(records)
            return ()
        self._outputs.send([record for record in records if record.tp.topic not in ours])
        return [record for record in records if record.tp.topic in ours]

    def commit(
        self, records: Sequence[OutRecord], positions: list[TopicPartition], metadata: object
    ) -> list[int]:
        """See ``Commits.commit``."""
        self._outputs.settle()
        return self._transactions.commit(records, positions, metadata)

    def abandon(self) -> None:
        """See ``Commits.abandon``."""
        self._outputs.close()
        self._transactions.abandon()

    def close(self) -> None:
        """See ``Commits.close``."""
        self._outputs.close()
        self._transactions.close()


class WithoutTransactions:
    """``at_least_once``: for clusters that have none, or do not allow them."""

    def __init__(
        self,
        outputs: Outputs,
        store: Callable[[list[TopicPartition], float], bool],
        trouble: Trouble,
    ) -> None:
        self._outputs = outputs
        self._store = store
        self._trouble = trouble
        self._lock = threading.Lock()
        self.abandon = self.close = outputs.close

    def open(self) -> None:
        """See ``Commits.open``: nothing to do."""

    def claim(self, positions: list[TopicPartition], metadata: object) -> None:
        """See ``Commits.claim``: nothing is ever left half written."""

    def send(self, records: Sequence[OutRecord]) -> Sequence[OutRecord]:
        """See ``Commits.send``: none waits."""
        self._outputs.send(records)
        return ()

    def commit(
        self,
        records: Sequence[OutRecord],
        positions: list[TopicPartition],
        metadata: object,  # noqa: ARG002 - the consumer knows its own
    ) -> list[int]:
        """See ``Commits.commit``; after an error the records may be there, the positions not."""
        with self._lock:
            self._outputs.settle()
            offsets = self._outputs.write(records)
            if positions:
                self._commit(positions)
            return offsets

    def _commit(self, positions: list[TopicPartition]) -> None:
        try:
            if not self._store(positions, CALL_S):
                msg = f"The cluster took no positions for {CALL_S:.0f} s"
                raise BrokerUnavailableError(msg)
        except KafkaException as exc:
            error = error_of(exc)
            raised = failure(exc, "committing positions", self._trouble)
            if error is not None and error.retriable():
                raise BrokerFullError(raised.message, hint="It is tried again") from exc
            raise raised from exc
