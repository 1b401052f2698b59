"""What each step in YAML does: the method of ``Flow`` that is named as it is, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamapp.core.aggregates import Aggregate
from streamapp.errors import ConfigError
from streamapp.operators.join import Pair
from streamapp.pipelines import yaml_schema as said
from streamapp.pipelines.expressions import of_value
from streamapp.pipelines.flow import Flow
from streamapp.pipelines.yaml_check import chosen, near
from streamapp.pipelines.yaml_names import (
    combined_by,
    condition_of,
    field_of,
    function_of,
    is_reference,
    key_of,
    mapped_by,
    resolved,
    topic_name,
    topic_of,
    type_of,
)
from streamapp.pipelines.yaml_text import Document, Path
from streamapp.pipelines.yaml_windows import AGGREGATES, WINDOWS, aggregate
from streamapp.state.table import Table


@dataclass(frozen=True, slots=True)
class Around:
    """Where a step stands: its place in the document, and the flows that have a name by then."""

    document: Document
    path: Path
    flows: dict[str, Flow]

    def flow(self, name: str) -> Flow:
        """Return the flow of a name.

        Raises:
            ConfigError: There is none, or only further down.
        """
        if name not in self.flows:
            hint = f"{near(name, self.flows)} (a flow can be named below where it is declared)"
            msg = f"there is no flow {name}"
            raise ConfigError(msg, hint=hint)
        return self.flows[name]

    def name(self, name: str, flow: Flow) -> None:
        """Give a flow a name.

        Raises:
            ConfigError: It is taken.
        """
        if name in self.flows:
            msg = f"there are two flows named {name}"
            raise ConfigError(msg, hint="Rename one of them")
        self.flows[name] = flow


def add_step(flow: Flow, data: Any, around: Around) -> Flow | None:
    """Add a step to a flow; return the flow behind it, ``None`` where it is none of its own.

    Raises:
        YamlError: The step is not known, or cannot be here.
    """
    word, step = chosen(around.document, around.path, data, said.STEPS)
    with around.document.at((*around.path, word)):
        return _STEPS[word](flow, step, around)


# --- one record at a time ------------------------------------------------------------------------


def _filter(flow: Flow, step: said.Filter, _: Around) -> Flow:
    return flow.filter(condition_of(step.filter, flow.value_type))


def _map(flow: Flow, step: said.Map, _: Around) -> Flow:
    function = mapped_by(step.map, of_value(flow.value_type))
    into = dict if isinstance(step.map, dict) and step.into is None else type_of(step.into)
    return flow.map(function, into=into)


def _flat_map(flow: Flow, step: said.FlatMap, _: Around) -> Flow:
    return flow.flat_map(function_of(step.flat_map, flow.value_type), into=type_of(step.into))


def _peek(flow: Flow, step: said.Peek, _: Around) -> Flow:
    return flow.peek(function_of(step.peek, flow.value_type))


def _branch(flow: Flow, step: said.Branch, around: Around) -> None:
    tests = {name: condition_of(text, flow.value_type) for name, text in step.branch.items()}
    for name, branch in flow.branch(**tests).items():
        around.name(name, branch)


def _merge(flow: Flow, step: said.Merge, around: Around) -> Flow:
    return flow.merge(*(around.flow(name) for name in step.merge))


# --- keys and state ------------------------------------------------------------------------------


def _key_by(flow: Flow, step: said.KeyBy, _: Around) -> Flow:
    return flow.key_by(key_of(step.key_by, flow.value_type))


def _group_by(flow: Flow, step: said.GroupBy, _: Around) -> Flow:
    key = key_of(step.group_by, flow.value_type)
    name = None if step.name is None else topic_name(step.name)
    return flow.group_by(key, name=name, partitions=step.partitions)


def _dedup(flow: Flow, step: said.Dedup, _: Around) -> Flow:
    return flow.dedup(key_of(step.dedup, flow.value_type), within=step.within)


def _join(flow: Flow, step: said.Join, around: Around) -> Flow:
    other = around.flow(step.join)
    combine = _combine(step.combine, flow, other.value_type)
    return flow.join(other, before=step.before, after=step.after, kind=step.kind, combine=combine)


def _join_as_of(flow: Flow, step: said.JoinAsOf, around: Around) -> Flow:
    other = around.flow(step.join_as_of)
    combine = _combine(step.combine, flow, other.value_type)
    return flow.join_as_of(other, within=step.within, kind=step.kind, combine=combine)


def _join_table(flow: Flow, step: said.JoinTable, _: Around) -> Flow:
    table = _table(flow, step.join_table)
    combine = _combine(step.combine, flow, table.spec.value_type)
    return flow.join_table(table, kind=step.kind, combine=combine)


def _rate_limit(flow: Flow, step: said.RateLimit, _: Around) -> Flow:
    return flow.rate_limit(step.rate_limit, **step.model_dump(exclude={"rate_limit"}))


def _buffer(flow: Flow, step: said.Buffer, _: Around) -> Flow:
    return flow.buffer(step.buffer, **step.model_dump(exclude={"buffer"}))


def _window(flow: Flow, step: said.Window, around: Around) -> Flow:
    path, document = around.path, around.document
    _, window = chosen(document, (*path, "window"), step.window, WINDOWS)
    windowed = flow.window(window.spec(), on_late=topic_of(step.on_late))
    if step.every is not None:
        windowed = windowed.emit(step.emit or "every", every=step.every)
    elif step.emit is not None:
        windowed = windowed.emit(step.emit)
    return windowed.aggregate(
        **{
            name: _aggregate(flow, part, document, (*path, "aggregate", name))
            for name, part in step.aggregate.items()
        }
    )


def _to(flow: Flow, step: said.To, _: Around) -> Flow:
    asked = step.to
    topic = None if asked.topic is None else topic_of(asked.topic)
    sink = None if asked.sink is None else resolved(asked.sink)
    return flow.to(table=asked.table, topic=topic, sink=sink, keep=asked.keep)


# --- parts of steps ------------------------------------------------------------------------------


def _combine(how: said.Combine, left: Flow, right_type: Any) -> Callable[[Any, Any], Any]:
    return Pair if how is None else combined_by(how, left.value_type, right_type)


def _table(flow: Flow, name: str) -> Table:
    tables = flow.pipeline.app.tables
    if not is_reference(name) and name not in tables:
        msg = f"there is no table {name}"
        hint = f"Declare it before pipelines are loaded, or name module:table. {near(name, tables)}"
        raise ConfigError(msg, hint=hint)
    found = resolved(name) if is_reference(name) else tables[name]
    if not isinstance(found, Table):
        msg = f"{name} is no table"
        raise ConfigError(msg, hint="Name what app.Table(...) has returned")
    return found


def _aggregate(flow: Flow, data: Any, document: Document, path: Path) -> Aggregate:
    with document.at(path):
        if isinstance(data, str) and is_reference(data):
            return _own_aggregate(data)
        word, asked = chosen(document, path, data, AGGREGATES)
    with document.at((*path, word)):
        return aggregate(word, asked, lambda text: field_of(text, flow.value_type))


def _own_aggregate(text: str) -> Aggregate:
    found = resolved(text)
    if not isinstance(found, Aggregate):
        msg = f"{text} is no aggregate"
        raise ConfigError(msg, hint="Name what streamapp.aggregate(...) has returned")
    return found


_STEPS: Final[Mapping[str, Callable[[Flow, Any, Around], Flow | None]]] = {
    "filter": _filter,
    "map": _map,
    "flat_map": _flat_map,
    "peek": _peek,
    "branch": _branch,
    "merge": _merge,
    "key_by": _key_by,
    "group_by": _group_by,
    "dedup": _dedup,
    "join": _join,
    "join_as_of": _join_as_of,
    "join_table": _join_table,
    "rate_limit": _rate_limit,
    "buffer": _buffer,
    "window": _window,
    "to": _to,
}
