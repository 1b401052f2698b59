"""The graph that a declaration makes: one node for each step, parents first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamapp.operators.operator import Operator, StateView

if TYPE_CHECKING:
    from streamapp.engine.topic import Topic
    from streamapp.operators.fused import Step
    from streamapp.state.operator_table import OperatorTable
    from streamapp.state.result_table import ResultTable
    from streamapp.state.table import Table


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A step; ``name`` is unique in its pipeline, parents stand in the order of their sides."""

    name: str
    parents: tuple[Node, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Source(Node):
    """Records of a topic."""

    topic: Topic = field(kw_only=True)


@dataclass(frozen=True, eq=False, slots=True)
class Stateless(Node):
    """One of ``operators.fused``'s steps."""

    step: Step = field(kw_only=True)


@dataclass(frozen=True, eq=False, slots=True)
class Regroup(Node):
    """Records go through a topic, by their key: records of one key meet in one partition.

    ``keeps_bytes``: values are those of the source topic, so their bytes can be passed on.
    """

    topic: Topic = field(kw_only=True)
    value_type: Any = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator works: one partition.

    ``state`` is its state, ``read`` looks up a row of a table in the same partition as of the event
    time that ``move_to`` was told last, ``now_ms`` is the wall clock.
    """

    partition: int
    state: StateView
    read: Callable[[Table, Any], Any]
    move_to: Callable[[int], None]
    now_ms: Callable[[], int]


@dataclass(frozen=True, eq=False, slots=True)
class Stateful(Node):
    """An operator; ``table`` shows its state, ``reads`` are tables that it looks rows up in.

    ``may_wait``: it can let the source wait; ``is_late``: rows leave it later than they came;
    ``needs_key``: rows without a key cannot be used.
    """

    make: Callable[[Place], Operator] = field(kw_only=True)
    table: OperatorTable | None = field(kw_only=True, default=None)
    reads: Table | None = field(kw_only=True, default=None)
    kind: str = field(kw_only=True)
    may_wait: bool = field(kw_only=True, default=False)
    is_late: bool = field(kw_only=True, default=False)
    needs_key: bool = field(kw_only=True, default=True)

    @property
    def keeps_keys(self) -> bool:
        """Whether keys are kept in its own state, which must give them back as they were."""
        return self.needs_key and self.reads is None


@dataclass(frozen=True, eq=False, slots=True)
class Merge(Node):
    """The records of several parents, as they come."""


@dataclass(frozen=True, eq=False, slots=True)
class Late(Node):
    """The records that came too late for their parent's windows, as they were before it."""


@dataclass(frozen=True, eq=False, slots=True)
class ToTopic(Node):
    """Rows become records of a topic. ``only`` names the kinds of window rows; empty for all."""

    topic: Topic = field(kw_only=True)
    only: frozenset[str] = field(kw_only=True, default=frozenset())


@dataclass(frozen=True, eq=False, slots=True)
class ToTable(Node):
    """Rows become rows of a table; window rows under (key, start)."""

    table: ResultTable = field(kw_only=True)
    is_windowed: bool = field(kw_only=True)


SINKS = (ToTopic, ToTable, Regroup)
