"""Where rows of a flow go: declarations of tables, topics and handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamapp.core.duration import to_ms
from streamapp.errors import ConfigError
from streamapp.operators.results import WindowRow
from streamapp.pipelines.checks import check_topic
from streamapp.pipelines.nodes import ToTable, ToTopic

if TYPE_CHECKING:
    from streamapp.pipelines.flow import Flow


def add_sink(
    flow: Flow, *, table: Any = None, topic: Any = None, sink: Any = None, keep: Any = "7d"
) -> None:
    """Let a flow's rows go to a table, a topic or a handler; see ``Flow.to``.

    Raises:
        ConfigError: None is given, or one that cannot be a target.
    """
    if table is None and topic is None and sink is None:
        msg = f"Pipeline {flow.pipeline.name}: .to() without a target"
        raise ConfigError(msg, hint="Give table=, topic= or sink=")
    if table is not None:
        _add_table(flow, table, keep)
    if topic is not None:
        _add_topic(flow, topic)
    if sink is not None:
        add_handler(flow, sink)


def add_handler(
    flow: Flow, handler: Callable[..., Any], only: frozenset[str] = frozenset()
) -> None:
    """Let a function be called with lists of a flow's rows.

    Raises:
        ConfigError: It cannot be called.
    """
    pipeline = flow.pipeline
    if not callable(handler):
        msg = f"Pipeline {pipeline.name}: {handler!r:.80} cannot be called with rows"
        raise ConfigError(msg, hint="Give a function (or coroutine function) of a list of rows")
    topic = pipeline.handler_topic(handler, flow.value_type)
    pipeline.add(ToTopic(pipeline.label("handler"), (flow.node,), topic=topic, only=only))


def _add_table(flow: Flow, name: Any, keep: Any) -> None:
    pipeline = flow.pipeline
    if not isinstance(name, str):
        msg = f"Pipeline {pipeline.name}: table={name!r:.80} is no name"
        raise ConfigError(msg, hint="A pipeline makes its own table: give the name of a new one")
    is_windowed = isinstance(flow.value_type, type) and issubclass(flow.value_type, WindowRow)
    if is_windowed and not flow.value_type.has_name:
        msg = f"Pipeline {pipeline.name}: table={name!r} of count windows would lose rows"
        hint = "Windows of a key may have one start: send them to a topic, or .map(...) them first"
        raise ConfigError(msg, hint=hint)
    table = pipeline.app.result_table(
        name, flow.value_type, to_ms(keep) if is_windowed else None, f"Results of {pipeline.name}"
    )
    label = pipeline.label("table")
    pipeline.add(ToTable(label, (flow.node,), table=table, is_windowed=is_windowed))


def _add_topic(flow: Flow, topic: Any) -> None:
    pipeline = flow.pipeline
    check_topic(f"Pipeline {pipeline.name}: .to(topic=...)", topic)
    if isinstance(topic, str):
        topic = pipeline.app.topic(topic, value_type=flow.value_type)
    pipeline.add(ToTopic(pipeline.label("topic"), (flow.node,), topic=topic))
