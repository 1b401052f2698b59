"""Topics as Faust asks for them: Kafka's option names and seconds in, ``TopicSpec`` out.

It must never change a topic that exists. Numbers of partitions never change, so they are cached.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mode.utils.times import want_seconds

from streamapp.errors import PartitionMismatchError, UnknownTopicError
from streamapp.transport.broker import TopicSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mode.utils.times import Seconds

    from streamapp.transport.broker import Broker

_log = logging.getLogger(__name__)


def kafka_config(
    retention: Seconds | None, *, compacting: bool | None, deleting: bool | None
) -> dict[str, Any]:
    """Translate Faust's arguments to Kafka's option names; ``retention`` is in seconds."""
    config: dict[str, Any] = {}
    flags = {"compact": compacting, "delete": deleting}
    if cleanup := ",".join(flag for flag, is_on in flags.items() if is_on):
        config["cleanup.policy"] = cleanup
    if retention is not None:
        config["retention.ms"] = round(want_seconds(retention) * 1_000)
    return config


def topic_spec(topic: str, partitions: int, config: Mapping[str, Any]) -> TopicSpec:
    """Build a spec from Kafka's options: ``cleanup.policy``, ``retention.ms``/``.bytes``.

    Others are ignored. A negative bound means unbounded, as in Kafka. A topic that is compacted
    and not deleted from has no bounds.
    """
    default = TopicSpec(topic, partitions)
    cleanup = frozenset(str(config.get("cleanup.policy", "delete")).split(","))
    if "delete" not in cleanup:
        return TopicSpec(topic, partitions, cleanup, None, None)
    return TopicSpec(
        topic,
        partitions,
        cleanup,
        _bound(config.get("retention.ms", default.retention_ms)),
        _bound(config.get("retention.bytes", default.retention_bytes)),
    )


def _bound(option: Any) -> int | None:
    return None if option is None or int(option) < 0 else int(option)


class Topics:
    """The broker's topics, by name; asks the broker about each one once."""

    def __init__(self, broker: Callable[[], Broker]) -> None:
        self._broker = broker
        self._partitions: dict[str, int] = {}

    def get(self, topic: str) -> int | None:
        """Return the number of partitions, ``None`` for an unknown topic. May block, once."""
        known = self._partitions.get(topic)
        if known is None:
            self._partitions = {
                name: info.spec.partitions for name, info in self._broker().topics().items()
            }
            known = self._partitions.get(topic)
        return known

    def partitions(self, topic: str) -> int:
        """Return the number of partitions.

        Raises:
            UnknownTopicError: The topic does not exist.
        """
        known = self.get(topic)
        if known is None:
            message = f"topic {topic} does not exist"
            raise UnknownTopicError(message, hint="create it, or allow topics to be declared")
        return known

    def create(self, spec: TopicSpec) -> None:
        """Create the topic unless it exists; one with other partitions keeps them. Blocks."""
        try:
            self._broker().create_topic(spec)
        except PartitionMismatchError as exc:
            # As on Kafka: Faust declares topics on every start, whoever made them first decides.
            _log.warning("%s: it keeps them", exc.message)
        self.get(spec.name)
