"""Groups as others see them, and what a member writes into its name and its notes.

A member is known to others by its ``client.id``, ``id@url``. A committed position carries the
note ``id``, newline, the engine's own: whoever takes the partition over knows whose transaction may
still be open. A position that only fences (``transactions``) has ``FENCE`` for a note: it is none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from streamapp.errors import BrokerUnavailableError
from streamapp.transport.broker import GroupInfo, MemberInfo, Position
from streamapp.transport.kafka.clients import CALL_S
from streamapp.transport.kafka.failures import failure, is_passing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient, ConsumerGroupDescription, MemberDescription

    from streamapp.core.batch import TP
    from streamapp.transport.kafka.failures import Trouble
    from streamapp.transport.kafka.names import Names

FENCE = "\nfence"
#: Seconds between two looks at positions that a running commit is about to change.
_LOOK_S = 0.01
#: Seconds after which such a commit counts as stuck; its time-out is shorter.
_STUCK_S = 60.0


def client_id(member_id: str, url: str) -> str:
    """Return the name under which a member's clients are known to the cluster."""
    return f"{member_id}@{url}" if url else member_id


def write_note(member_id: str, note: str) -> str:
    """Return the note of a committed position."""
    return f"{member_id}\n{note}"


def read_note(note: str | None) -> tuple[str, str]:
    """Return whose commit it was (empty: of a foreign tool) and the engine's note."""
    owner, newline, rest = (note or "").partition("\n")
    return (owner, rest) if newline else ("", owner)


def positions_of(places: Iterable[TopicPartition], names: Names) -> dict[TP, Position]:
    """Return the positions among what the cluster has committed for a group."""
    return {
        names.tp(place): Position(place.offset, read_note(place.metadata)[1])
        for place in places
        if place.offset >= 0 and place.metadata != FENCE and names.ours(place.topic) is not None
    }


class Groups:
    """What a broker asks the cluster about groups; thread-safe."""

    def __init__(self, admin: AdminClient, names: Names, trouble: Trouble) -> None:
        self._admin = admin
        self._names = names
        self._trouble = trouble

    def committed(self, group: str, tps: Iterable[TP]) -> dict[TP, Position]:
        """See ``Broker.committed``; waits for a commit that is being written.

        Raises:
            BrokerUnavailableError: A commit stays open for long beyond its time-out.
        """
        wanted = list(tps)
        if not wanted:
            return {}
        return positions_of(self._stable(group, wanted), self._names)

    def written(self, group: str, tps: Iterable[TP]) -> dict[TP, tuple[int, str | None]]:
        """Return offset and whole note of the positions, without waiting for open commits."""
        places = self._ask(group, list(tps), require_stable=False)
        return {
            self._names.tp(place): (place.offset, place.metadata)
            for place in places
            if place.offset >= 0
        }

    def member_ids(self, group: str) -> frozenset[str]:
        """Return the members of a group, as far as they are ours."""
        theirs = self._names.theirs(group)
        try:
            found = self._admin.describe_consumer_groups([theirs])[theirs].result(CALL_S)
        except (KafkaException, TimeoutError) as exc:
            raise failure(exc, f"asking for group {group}", self._trouble) from exc
        return frozenset(self._member(member).id for member in found.members)

    def _stable(self, group: str, tps: list[TP] | None) -> list[TopicPartition]:
        deadline = time.monotonic() + _STUCK_S
        while time.monotonic() < deadline:
            places = self._ask(group, tps, require_stable=True)
            errors = [place.error for place in places if place.error is not None]
            if not errors:
                return places
            if not all(map(is_passing, errors)):
                raise failure(errors[0], f"reading positions of group {group}", self._trouble)
            time.sleep(_LOOK_S)
        msg = f"A commit of group {group} has been open for {_STUCK_S:.0f} s"
        raise BrokerUnavailableError(msg, hint="Look at the cluster's transaction coordinator")

    def _ask(
        self, group: str, tps: list[TP] | None, *, require_stable: bool
    ) -> list[TopicPartition]:
        theirs = self._names.theirs(group)
        places = None if tps is None else [self._names.place(tp) for tp in tps]
        request = ConsumerGroupTopicPartitions(theirs, places)
        try:
            future = self._admin.list_consumer_group_offsets(
                [request], require_stable=require_stable
            )[theirs]
            return list(future.result(CALL_S).topic_partitions)
        except (KafkaException, TimeoutError) as exc:
            raise failure(exc, f"reading positions of group {group}", self._trouble) from exc

    def all(self) -> Mapping[str, GroupInfo]:
        """See ``Broker.groups``; Kafka tells nobody outside of a group its generation: 0."""
        try:
            listed = self._admin.list_consumer_groups().result(CALL_S).valid
            theirs = [one.group_id for one in listed if self._names.ours(one.group_id) is not None]
            if not theirs:
                return {}
            described = self._admin.describe_consumer_groups(theirs)
            found = [described[name].result(CALL_S) for name in theirs]
        except (KafkaException, TimeoutError) as exc:
            raise failure(exc, "asking for groups", self._trouble) from exc
        return {info.name: info for info in map(self._info, found)}

    def _info(self, found: ConsumerGroupDescription) -> GroupInfo:
        name = found.group_id.removeprefix(self._names.prefix)
        members = tuple(self._member(member) for member in found.members)
        return GroupInfo(name, 0, members, positions_of(self._stable(name, None), self._names))

    def _member(self, member: MemberDescription) -> MemberInfo:
        member_id, _, url = (member.client_id or member.member_id).partition("@")
        assignment = member.assignment.topic_partitions
        tps = frozenset(
            self._names.tp(place)
            for place in assignment
            if self._names.ours(place.topic) is not None
        )
        return MemberInfo(member_id, url, is_alive=True, tps=tps)
