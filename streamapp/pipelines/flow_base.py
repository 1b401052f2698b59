"""What all words of a pipeline are made with: a step is added, and the flow behind it returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from streamapp.errors import ConfigError
from streamapp.operators.fused import Step, function_of
from streamapp.pipelines.nodes import Node, Place, Stateful, Stateless

if TYPE_CHECKING:
    from streamapp.pipelines.flow import Flow
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.state.operator_table import View
    from streamapp.state.table import Table


def _hidden(raw: bytes, data: bytes) -> None:
    """Show nothing of a state that only its operator can read."""
    del raw, data


class BaseFlow:
    """Records between two steps. ``value_type`` is the type of the values where it is known."""

    def __init__(self, pipeline: Pipeline, node: Node, value_type: Any = None) -> None:
        self.pipeline = pipeline
        self.node = node
        self.value_type = value_type

    def _behind(self, node: Node, value_type: Any) -> Flow:
        """Return the flow behind a step."""
        raise NotImplementedError

    def _add(self, node: Any) -> Any:
        return self.pipeline.add(node)

    def _label(self, kind: str) -> str:
        return self.pipeline.label(kind)

    def _step(self, step: Step, value_type: Any) -> Flow:
        function_of(step)  # its mistakes are told here, where it is declared
        node = self._add(
            Stateless(self._label(type(step).__name__.lower()), (self.node,), step=step)
        )
        return self._behind(node, value_type)

    def _stateful(  # noqa: PLR0913 - what a step is made of
        self,
        kind: str,
        make: Callable[[Place], Any],
        parents: tuple[BaseFlow, ...],
        value_type: Any,
        reads: Table | None = None,
        *,
        view: View | None = _hidden,
        **traits: bool,
    ) -> Flow:
        self._check_parents(kind, parents)
        label = self._label(kind)
        table = None
        if view is not None and reads is None:
            table = self.pipeline.state_table(label, view, f"State of {label}")
        nodes = tuple(parent.node for parent in parents)
        node = Stateful(label, nodes, make=make, table=table, reads=reads, kind=kind, **traits)
        return self._behind(self._add(node), value_type)

    def _check_parents(self, kind: str, parents: Sequence[object]) -> None:
        for parent in parents:
            if not isinstance(parent, BaseFlow):
                msg = f"Pipeline {self.pipeline.name}: {kind} with {parent!r:.80}, which is no flow"
                raise ConfigError(msg, hint="Give a flow, as pipeline.source(topic) is one")
            if parent.pipeline is not self.pipeline:
                msg = f"Pipeline {self.pipeline.name}: {kind} with a flow of another pipeline"
                raise ConfigError(msg, hint="Begin both flows with .source() of one pipeline")
