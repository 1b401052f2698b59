"""Where steps may stand that let rows wait: what a declaration would break, it is told. Pure.

A row can wait only where it can be offered again, so nothing with state may have seen it; and two
steps that wait for each other's rows would take some twice. A row that was held has met its
watermark, so nothing that asks for lateness may come behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamapp.errors import ConfigError
from streamapp.pipelines.nodes import Merge, Node, Regroup, Source, Stateful, Stateless


def check_pace(pipeline: str, nodes: Sequence[Node]) -> None:
    """Check the graph of a pipeline; ``nodes`` come parents first.

    Raises:
        ConfigError: A step waits, or holds rows, where that cannot work.
    """
    waits_at: dict[str, Node] = {}
    for node in nodes:
        if isinstance(node, Stateful) and node.may_wait:
            for topic in _topics(pipeline, node, node):
                other = waits_at.setdefault(topic, node)
                if other is not node:
                    msg = (
                        f"Pipeline {pipeline}: {other.name} and {node.name} wait beside each other"
                    )
                    raise ConfigError(msg, hint="Let one of them drop, or wait before the branches")
        if isinstance(node, (Stateful, Regroup)) and (held := _held_by(node)) is not None:
            msg = f"Pipeline {pipeline}: {node.name} comes behind {held.name}"
            hint = "Rows that were held are late: put it before, or behind .to(topic=...)"
            raise ConfigError(msg, hint=hint)


def _topics(pipeline: str, waiting: Node, node: Node) -> Iterator[str]:
    """Iterate over the topics from which the rows of a step can be offered again."""
    for before in node.parents:
        if isinstance(before, (Source, Regroup)):
            yield from before.topic.topics
        elif isinstance(before, (Stateless, Merge)):
            yield from _topics(pipeline, waiting, before)
        else:
            msg = f"Pipeline {pipeline}: {waiting.name} cannot wait behind {before.name}"
            raise ConfigError(msg, hint="Let it drop what is too much, or put it before")


def _held_by(node: Node) -> Node | None:
    """Return the buffer that rows of a step have been in, in this stage or an earlier one."""
    for before in node.parents:
        if isinstance(before, Stateful) and before.is_late:
            return before
        if (found := _held_by(before)) is not None:
            return found
    return None
