"""What the cluster allows us, asked before a worker joins: later it would only wait without end.

A cluster without an authorizer allows everything.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation

from streamapp.errors import DeniedError, StreamappError
from streamapp.transport.kafka.failures import CALL_S, failure, patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from streamapp.transport.kafka.admin import Admin
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.names import Names
    from streamapp.transport.kafka.positions import Positions

log = logging.getLogger(__name__)

_READ = frozenset({AclOperation.READ})
_BOTH = _READ | {AclOperation.WRITE}


class Rights:
    """Asks what we may do; thread-safe. ``who`` names us in errors."""

    def __init__(
        self, admin: Admin, positions: Positions, names: Names, who: str, trouble: Trouble
    ) -> None:
        self._admin = admin
        self._positions = positions
        self._names = names
        self._who = who
        self._trouble = trouble

    def check(self, group: str, reads: Collection[str], keeps: Collection[str]) -> None:
        """Check that a worker of the group could do its work.

        Args:
            group: What it joins.
            reads: Topics that it reads; those that are not there yet are passed over.
            keeps: Topics that it reads and writes.

        Raises:
            DeniedError: It may not. Whatever else fails will be seen by whoever works.
        """
        wanted = {**dict.fromkeys(reads, _READ), **dict.fromkeys(keeps, _BOTH)}
        self._ask(lambda: self._check_group(group))
        self._ask(lambda: self._check_topics(wanted))

    def _ask(self, ask: Callable[[], None]) -> None:
        try:
            patiently(ask, "asking for rights", self._trouble)
        except DeniedError:
            raise
        except StreamappError as exc:
            log.info("What the cluster allows is not known: %s", exc)

    def _check_group(self, group: str) -> None:
        try:
            self._positions.reach(group)
        except DeniedError:
            self._require("group", group, _READ, [])
        name = self._names.theirs(group)
        asked = self._admin.client.describe_consumer_groups(
            [name], include_authorized_operations=True
        )
        try:
            allowed = asked[name].result(CALL_S).authorized_operations
        except KafkaException as exc:
            failed = failure(exc, "asking for rights", self._trouble)
            if not isinstance(failed, DeniedError):
                raise
            allowed = []
        self._require("group", group, _READ, allowed)

    def _check_topics(self, wanted: Mapping[str, Collection[AclOperation]]) -> None:
        theirs = {self._names.theirs(name): operations for name, operations in wanted.items()}
        if not theirs:
            return
        asked = self._admin.client.describe_topics(
            TopicCollection(list(theirs)), include_authorized_operations=True
        )
        for name, future in asked.items():
            try:
                allowed = future.result(CALL_S).authorized_operations
            except KafkaException as exc:
                log.debug("Rights on topic %s are not known: %s", name, exc)
            else:
                self._require("topic", self._names.ours(name) or name, theirs[name], allowed)

    def _require(
        self,
        kind: str,
        name: str,
        wanted: Collection[AclOperation],
        allowed: Collection[AclOperation] | None,
    ) -> None:
        if allowed is None:  # a cluster that does not tell
            return
        missing = sorted(one.name.capitalize() for one in wanted if one not in allowed)
        if missing:
            raise self.lacking(kind, name, missing)

    def lacking(self, kind: str, name: str, operations: Sequence[str]) -> DeniedError:
        """Return what to raise when these operations of a resource are not allowed."""
        words = " and ".join(operations)
        message = f"Kafka: {self._who} lacks {words} of {kind} {self._names.theirs(name)}"
        return DeniedError(message, hint="Give it this right; docs/kafka.md has a list of them")
