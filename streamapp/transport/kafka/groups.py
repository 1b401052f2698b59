"""Groups as others see them. A member is known to others by its ``client.id``, ``id@url``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from streamapp.transport.broker import GroupInfo, MemberInfo
from streamapp.transport.kafka.failures import CALL_S, patiently

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import ConsumerGroupDescription, MemberDescription

    from streamapp.transport.kafka.admin import Admin
    from streamapp.transport.kafka.names import Names
    from streamapp.transport.kafka.positions import Positions
    from streamapp.transport.kafka.topics import Topics


def client_id(member_id: str, url: str) -> str:
    """Return the name under which a member's clients are known to the cluster."""
    return f"{member_id}@{url}" if url else member_id


class Groups:
    """What a broker asks the cluster about groups; thread-safe."""

    def __init__(self, admin: Admin, topics: Topics, positions: Positions, names: Names) -> None:
        self._admin = admin
        self._topics = topics
        self._positions = positions
        self._names = names

    def members(self, group: str) -> tuple[MemberInfo, ...]:
        """See ``Broker.members``."""
        theirs = self._names.theirs(group)
        self._positions.reach(group)
        found = patiently(
            lambda: self._admin.client.describe_consumer_groups([theirs])[theirs].result(CALL_S),
            f"asking for group {group}",
            self._topics.trouble,
        )
        return tuple(map(self._member, found.members))

    def all(self) -> Mapping[str, GroupInfo]:
        """See ``Broker.groups``; Kafka tells nobody outside of a group its generation: 0."""
        return patiently(self._all, "asking for groups", self._topics.trouble)

    def _all(self) -> dict[str, GroupInfo]:
        listed = self._admin.client.list_consumer_groups().result(CALL_S)
        if listed.errors:
            raise KafkaException(listed.errors[0])
        theirs = [
            one.group_id for one in listed.valid if self._names.ours(one.group_id) is not None
        ]
        if not theirs:
            return {}
        for name in theirs:
            self._positions.reach(name.removeprefix(self._names.prefix))
        described = self._admin.client.describe_consumer_groups(theirs)
        found = [described[name].result(CALL_S) for name in theirs]
        return {info.name: info for info in map(self._info, found)}

    def _info(self, found: ConsumerGroupDescription) -> GroupInfo:
        name = found.group_id.removeprefix(self._names.prefix)
        members = tuple(map(self._member, found.members))
        return GroupInfo(name, 0, members, self._positions.committed(name, self._topics.tps()))

    def _member(self, member: MemberDescription) -> MemberInfo:
        member_id, _, url = (member.client_id or member.member_id).partition("@")
        assignment = member.assignment.topic_partitions
        tps = frozenset(
            self._names.tp(place)
            for place in assignment
            if self._names.ours(place.topic) is not None
        )
        return MemberInfo(member_id, url, is_alive=True, tps=tps)
