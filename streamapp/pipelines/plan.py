"""From the graph of a declaration to stages: what runs together, over the same partitions.

A stage ends where records go through a topic (``Regroup``, ``ToTopic``) or into a table. Inside of
a stage neighbouring stateless steps are one unit. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from streamapp.errors import ConfigError
from streamapp.operators.fused import KeyBy
from streamapp.pipelines.nodes import (
    SINKS,
    Late,
    Node,
    Regroup,
    Source,
    Stateful,
    Stateless,
    ToTable,
)

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.operators.fused import Step

#: What makes values and times of the records of a topic: a stage reads each of them once.
_READ_BY: Final = {
    "event_time": "event times",
    "key_type": "types of keys",
    "value_type": "types of values",
    "key_serializer": "codecs of keys",
    "value_serializer": "codecs of values",
}


@dataclass(slots=True)
class UnitPlan:
    """Steps that run as one. ``to`` are the units behind it, each with the side it comes in at."""

    node: Node
    steps: list[Step] = field(default_factory=list)
    to: list[tuple[int, int]] = field(default_factory=list)
    late_to: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InputPlan:
    """A topic that a stage reads, and the units that its records go to.

    ``is_regrouped``: watermarks come with the records. ``needs_keys``: their keys are asked for, so
    they must be decoded; ``requires_keys``: a record without one cannot be used; ``keeps_keys``:
    nor one whose key could not be kept by an operator.
    """

    topic: Topic
    to: list[tuple[int, int]]
    is_regrouped: bool
    needs_keys: bool
    requires_keys: bool
    keeps_keys: bool


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Units in topological order, and the topics that they read."""

    name: str
    inputs: list[InputPlan]
    units: list[UnitPlan]

    def by_topic(self) -> dict[str, InputPlan]:
        """Return the input of each topic by its name; one that several sources read has one.

        Raises:
            ConfigError: It is read in two ways.
        """
        found: dict[str, InputPlan] = {}
        for of in self.inputs:
            for name in of.topic.topics:
                found[name] = _joined(name, found[name], of) if name in found else of
        return found


def stages_of(pipeline: str, nodes: Sequence[Node]) -> list[StagePlan]:
    """Cut a graph into its stages, in the order of the flow. ``nodes`` come parents first."""
    groups: dict[int, list[Node]] = {}
    roots = _grouped(nodes)
    for node in nodes:
        groups.setdefault(roots[id(node)], []).append(node)
    plans = [_stage(group, nodes) for group in groups.values()]
    return [
        StagePlan(pipeline if n == 1 else f"{pipeline}-{n}", plan.inputs, plan.units)
        for n, plan in enumerate(plans, 1)
    ]


def _grouped(nodes: Sequence[Node]) -> dict[int, int]:
    """Return for each node the name of its stage: nodes that share one share partitions."""
    parent = {id(node): id(node) for node in nodes}

    def find(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    first_behind: dict[int, Node] = {}
    for node in nodes:
        for before in node.parents:
            if isinstance(before, Regroup):
                # What reads one topic again reads it together.
                other = first_behind.setdefault(id(before), node)
                parent[find(id(node))] = find(id(other))
            else:
                parent[find(id(node))] = find(id(before))
    return {id(node): find(id(node)) for node in nodes}


def _stage(group: Sequence[Node], nodes: Sequence[Node]) -> StagePlan:
    children: dict[int, list[Node]] = {id(node): [] for node in nodes}
    for node in nodes:
        for before in dict.fromkeys(node.parents):
            children[id(before)].append(node)
    units, index = _units(group, children)
    for unit in units:
        last = unit.node
        for child in () if isinstance(last, Regroup) else children[id(last)]:
            target = _arrivals(child, last, index, children)
            if isinstance(child, Late):
                unit.late_to += target
            else:
                unit.to += target
    return StagePlan("", _inputs(group, index, children), units)


def _units(
    group: Sequence[Node], children: dict[int, list[Node]]
) -> tuple[list[UnitPlan], dict[int, int]]:
    """Return the units, and the index of the unit that each node is part of."""
    units: list[UnitPlan] = []
    index: dict[int, int] = {}
    for node in group:
        if isinstance(node, Stateless):
            before = node.parents[0]
            at = index.get(id(before), -1)
            if at >= 0 and units[at].steps and len(children[id(before)]) == 1:
                units[at].steps.append(node.step)
                units[at].node = node
            else:
                at = len(units)
                units.append(UnitPlan(node, [node.step]))
            index[id(node)] = at
        elif isinstance(node, (Stateful, *SINKS)):
            index[id(node)] = len(units)
            units.append(UnitPlan(node))
    return units, index


def _arrivals(
    child: Node, before: Node, index: dict[int, int], children: dict[int, list[Node]]
) -> list[tuple[int, int]]:
    """Return the units (and sides) that an edge leads to, through nodes that are no units."""
    if id(child) in index:
        sides = [side for side, parent in enumerate(child.parents) if parent is before]
        is_joined = isinstance(child, Stateful)
        return [(index[id(child)], side if is_joined else 0) for side in sides]
    places = [
        place for below in children[id(child)] for place in _arrivals(below, child, index, children)
    ]
    # A flow that is merged with itself arrives twice.
    return places * child.parents.count(before)


def _inputs(
    group: Sequence[Node], index: dict[int, int], children: dict[int, list[Node]]
) -> list[InputPlan]:
    sources: list[Source | Regroup] = []
    for node in group:
        # A flow that is joined with itself is a parent twice.
        parents = dict.fromkeys(node.parents)
        before = [p for p in parents if isinstance(p, Regroup) and p not in sources]
        if cycle := next((p for p in before if p in group), None):
            raise _reads_itself(cycle)
        sources += [*before, *([node] if isinstance(node, Source) else [])]
    inputs: dict[tuple[str, ...], InputPlan] = {}
    for source in sources:
        found = _input(source, index, children)
        names = tuple(source.topic.topics)
        told = ", ".join(names)
        inputs[names] = _joined(told, inputs[names], found) if names in inputs else found
    return list(inputs.values())


def _input(
    source: Source | Regroup, index: dict[int, int], children: dict[int, list[Node]]
) -> InputPlan:
    below = children[id(source)]
    to = [place for child in below for place in _arrivals(child, source, index, children)]
    is_regrouped = isinstance(source, Regroup)
    needs_keys, requires_keys, keeps_keys = (
        is_regrouped or any(_reaches(child, asks, children) for child in below)
        for asks in (_asks_for_key, _needs_key, _keeps_key)
    )
    # Keys that came by a ``group_by`` were looked at there.
    keeps_keys = keeps_keys and not is_regrouped
    return InputPlan(source.topic, to, is_regrouped, needs_keys, requires_keys, keeps_keys)


def _joined(name: str, first: InputPlan, second: InputPlan) -> InputPlan:
    """Return one input for two sources of one topic: a stage reads it once."""
    one, other = first.topic, second.topic
    for what in _READ_BY:
        if one is not other and getattr(one, what) != getattr(other, what):
            msg = f"{name} is read with two {_READ_BY[what]} in one pipeline"
            raise ConfigError(msg, hint="Declare the topic once, and begin both flows with it")
    return replace(
        first,
        to=first.to + second.to,
        needs_keys=first.needs_keys or second.needs_keys,
        requires_keys=first.requires_keys or second.requires_keys,
        keeps_keys=first.keeps_keys or second.keeps_keys,
    )


def _reads_itself(node: Regroup) -> ConfigError:
    msg = f"{node.name} is joined or merged with a flow that it was made of"
    return ConfigError(msg, hint="Begin one of the two with another .source() of the same topic")


def _asks_for_key(node: Node) -> bool:
    return isinstance(node, (Stateful, *SINKS))


def _needs_key(node: Node) -> bool:
    return isinstance(node, ToTable) or (isinstance(node, Stateful) and node.needs_key)


def _keeps_key(node: Node) -> bool:
    return isinstance(node, Stateful) and node.keeps_keys


def _reaches(node: Node, asks: Callable[[Node], bool], children: dict[int, list[Node]]) -> bool:
    """Tell whether the key that records come with gets to a node that asks for it."""
    if isinstance(node, Stateless) and isinstance(node.step, KeyBy):
        return False
    return asks(node) or any(_reaches(child, asks, children) for child in children[id(node)])
