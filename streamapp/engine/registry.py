"""Stand-ins for two of Faust's collaborators whose work our engine does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mode.utils.trees import Node

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic


class TopicRegistry:
    """The topics that streams have begun to iterate over: Faust's ``app.topics``."""

    def __init__(self) -> None:
        self._topics: dict[int, Topic] = {}
        #: Faust hangs agents here in its graph of services.
        self.beacon = Node(self)
        #: Faust's streams over channels look here for topics to acknowledge: there are none.
        self.acking_topics: frozenset[str] = frozenset()

    def add(self, topic: Topic) -> None:
        """Note a topic; called by Faust when a stream is made."""
        self._topics[id(topic)] = topic

    def discard(self, topic: Topic) -> None:
        """Forget a topic."""
        self._topics.pop(id(topic), None)

    def __iter__(self) -> Iterator[Topic]:
        """Iterate over the topics."""
        return iter(tuple(self._topics.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._topics)


class UnusedConsumer:
    """Faust's ``app.consumer`` for events of channels and for ``event.ack()``: does nothing."""

    def __init__(self) -> None:
        self.unacked: set[Any] = set()

    def ack(self, message: Any) -> bool:  # noqa: ARG002 - Faust's signature
        """Return that the event needs no acknowledgement: its stream's progress is one."""
        return False
