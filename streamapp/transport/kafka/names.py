"""Our names of topics and groups, and the cluster's: with the prefix of the URL before them."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import TopicPartition

from streamapp.core.batch import TP

#: Topics that Kafka keeps for itself.
_INTERNAL = "__"


@dataclass(frozen=True, slots=True)
class Names:
    """Adds and removes the prefix."""

    prefix: str

    def theirs(self, name: str) -> str:
        """Return the cluster's name of a topic or group."""
        return self.prefix + name

    def ours(self, name: str) -> str | None:
        """Return our name; ``None`` for what is not ours to see."""
        if not name.startswith(self.prefix) or name.startswith(_INTERNAL):
            return None
        return name.removeprefix(self.prefix)

    def place(self, tp: TP, offset: int = -1001, note: str | None = None) -> TopicPartition:
        """Return the binding's partition; -1001 is its "no offset"."""
        if note is None:
            return TopicPartition(self.theirs(tp.topic), tp.partition, offset)
        return TopicPartition(self.theirs(tp.topic), tp.partition, offset, note)

    def tp(self, place: TopicPartition) -> TP:
        """Return our partition of one that has our prefix."""
        return TP(place.topic.removeprefix(self.prefix), place.partition)
