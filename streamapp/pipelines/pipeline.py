"""A pipeline: a named graph of steps from topics to topics, tables and handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from inspect import isawaitable
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from streamapp.core.names import NAME_HINT, is_topic_name
from streamapp.errors import ConfigError
from streamapp.pipelines.checks import check_topic
from streamapp.pipelines.flow import Flow
from streamapp.pipelines.kept_keys import check_kept_keys
from streamapp.pipelines.nodes import Node, Source, ToTable, ToTopic
from streamapp.pipelines.pace import check_pace
from streamapp.pipelines.plan import StagePlan, stages_of

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.topic import Topic
    from streamapp.state.operator_table import OperatorTable, View

_N = TypeVar("_N", bound=Node)

#: Rows that a handler is given at once, and seconds that they gather for it.
_HANDED = 1_000
_GATHER_S = 0.05


class Pipeline:
    """A declared pipeline; begin it with ``source``.

    Guarantee: what it writes to tables and topics is one commit with the positions of its sources,
    so a row counts once, whatever dies.
    """

    def __init__(self, app: App, name: str, on_error: Any = None) -> None:
        if not is_topic_name(name):
            msg = f"{name!r} is no name for a pipeline"
            raise ConfigError(msg, hint=NAME_HINT)
        self.app = app
        self.name = name
        self.on_error = on_error
        self.nodes: list[Node] = []
        self._handlers = 0
        self._topic_labels: set[str] = set()

    def source(self, topic: Topic | str) -> Flow:
        """Begin with the records of a topic (or its name)."""
        check_topic(f"Pipeline {self.name}: source", topic)
        source = self.app.topic(topic) if isinstance(topic, str) else topic
        node = self.add(Source(self.label("source"), topic=source))
        return Flow(self, node, source.value_type)

    def stages(self) -> list[StagePlan]:
        """Return what is to run.

        Raises:
            ConfigError: Nothing is written anywhere, or a step cannot be where it is.
        """
        if not any(isinstance(node, (ToTable, ToTopic)) for node in self.nodes):
            msg = f"Pipeline {self.name} writes nothing"
            raise ConfigError(
                msg, hint="End it with .to(table=...), .to(topic=...) or .to(sink=...)"
            )
        check_pace(self.name, self.nodes)
        check_kept_keys(self.name, self.nodes)
        return stages_of(self.name, self.nodes)

    # --- what flows use --------------------------------------------------------------------------

    def add(self, node: _N) -> _N:
        """Add a step, after its parents."""
        self.nodes.append(node)
        return node

    def label(self, kind: str) -> str:
        """Return a name for a step of this kind: ``window``, ``window-2``, ..."""
        taken = {node.name for node in self.nodes}
        names = (kind if n == 1 else f"{kind}-{n}" for n in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def topic_label(self, name: str | None, default: str) -> str:
        """Return the part of a ``group_by`` topic's name that tells it from the pipeline's others.

        Raises:
            ConfigError: The name was given to another one: their records would mix.
        """
        label = name or next(
            text
            for n in count(1)
            if (text := default if n == 1 else f"{default}-{n}") not in self._topic_labels
        )
        if label in self._topic_labels:
            msg = f"Pipeline {self.name}: there are two group_by(name={label!r})"
            raise ConfigError(msg, hint="Rename one of them")
        self._topic_labels.add(label)
        return label

    def state_table(
        self, label: str, view: View, help_: str, *, holds_windows: bool = False
    ) -> OperatorTable:
        """Declare the table of an operator's state."""
        name = f"{self.name}-{label}"
        return self.app.operator_table(name, view, help_, holds_windows=holds_windows)

    def handler_topic(self, handler: Callable[..., Any], value_type: Any) -> Topic:
        """Return the topic over which rows go to a handler; declares the agent that calls it."""
        self._handlers += 1
        suffix = "rows" if self._handlers == 1 else f"rows-{self._handlers}"
        topic: Topic = self.app.topic(
            f"{self.app.conf.id}-{self.name}-{suffix}", value_type=value_type, internal=True
        )

        async def hand_over(stream: Any) -> None:
            async for rows in stream.take(_HANDED, within=_GATHER_S):
                await _call(handler, rows)

        self.app.agent(topic, name=f"{self.name}-{suffix}", on_error=self.on_error)(hand_over)
        return topic

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the steps, parents first."""
        return iter(self.nodes)


async def _call(handler: Callable[..., Any], rows: Sequence[Any]) -> None:
    done: Awaitable[Any] | Any = handler(rows)
    if isawaitable(done):
        await done
