"""Windows of a flow: which aggregates, when results leave, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from streamapp.core.aggregates import Aggregate, AggregateSet
from streamapp.core.duration import to_ms
from streamapp.core.windows import Count, Emission, Global, OnLate, Session, Sliding, WindowSpec
from streamapp.errors import ConfigError
from streamapp.operators.results import CORRECTION, FINAL, LATE, RETRACT, row_type
from streamapp.operators.windowing import Windowing
from streamapp.pipelines.checks import check_aggregates, check_on_late
from streamapp.pipelines.flow import Flow
from streamapp.pipelines.nodes import Late, Place, Stateful
from streamapp.pipelines.sinks import add_handler, add_sink

if TYPE_CHECKING:
    from streamapp.operators.operator import Operator
    from streamapp.operators.results import WindowRow
    from streamapp.pipelines.words import Duration

_H = TypeVar("_H", bound=Callable[..., Any])
#: The kinds of rows that tell of a closed window.
_CLOSED = frozenset({FINAL, LATE, CORRECTION, RETRACT})


class Windowed:
    """A flow in windows, before it is known what is aggregated."""

    def __init__(self, flow: Flow, spec: WindowSpec, on_late: Any = "drop") -> None:
        check_on_late(f"Pipeline {flow.pipeline.name}", on_late)
        self._flow = flow
        self._late_topic: Any = None
        self._emission = Emission()
        self._spec = self._with_late(spec, on_late)

    def emit(self, on: str = "close", *, every: Duration | None = None) -> Windowed:
        """Say when results leave.

        ``"close"`` (default): once, when the window has closed (and again for late records that are
        still allowed); ``"update"``: with each commit, for windows that have changed;
        ``every="10s"``: each time the watermark passes a multiple of it, for those that have
        changed. Rows before the close are of kind ``update``. Sliding and count windows leave when
        they are complete, and at no other time.
        """
        if every is not None and to_ms(every) > 0 and on in ("close", "every"):
            self._emission = Emission("every", to_ms(every))
        elif on in ("close", "update") and every is None:
            self._emission = Emission("update" if on == "update" else "close")
        else:
            msg = f"Pipeline {self._flow.pipeline.name}: emit({on!r}, every={every!r})"
            raise ConfigError(msg, hint='Use "close", "update", or every="10s"')
        if self._emission.kind != "close" and isinstance(self._spec, (Count, Sliding)):
            msg = f"Pipeline {self._flow.pipeline.name}: emit() of {self._spec}"
            raise ConfigError(msg, hint="These have one row each, which leaves when it is complete")
        return self

    def aggregate(self, /, **aggregates: Aggregate) -> Aggregated:
        """Aggregate each window of each key; the names become fields of the rows.

        Raises:
            ConfigError: There is none, or a name cannot be a field.
        """
        flow, pipeline = self._flow, self._flow.pipeline
        if not aggregates:
            msg = f"Pipeline {pipeline.name}: aggregate() of nothing"
            raise ConfigError(msg, hint="Name some: aggregate(n=streamapp.count())")
        for name, given in aggregates.items():
            if not isinstance(given, Aggregate):
                msg = f"Pipeline {pipeline.name}: {name}={given!r:.80} is no aggregate"
                raise ConfigError(msg, hint='Give streamapp.count(), streamapp.sum("field"), ...')
        check_aggregates(f"Pipeline {pipeline.name}", aggregates, flow.value_type)
        merged = AggregateSet(aggregates)
        is_session = isinstance(self._spec, Session)
        fields = (*(("first", "last") if is_session else ()), *aggregates)
        row = row_type(pipeline.name, fields, has_name=not isinstance(self._spec, Count))
        windows = Windowing(self._spec, merged, row, self._emission)

        def make(place: Place) -> Operator:
            return windows.operator(place.state)

        label = pipeline.label("windows")
        table = pipeline.state_table(
            label, windows.view(), f"Windows of {pipeline.name} that are kept", holds_windows=True
        )
        node = Stateful(label, (flow.node,), make=make, table=table, kind="window")
        result = Aggregated(pipeline, pipeline.add(node), row)
        if self._late_topic is not None:
            late = Flow(pipeline, pipeline.add(Late(pipeline.label("late"), (node,))))
            add_sink(late, topic=self._late_topic)
        return result

    def _with_late(self, spec: WindowSpec, on_late: Any) -> WindowSpec:
        kind: OnLate = "side"
        if on_late == "drop" or on_late == "correct":  # noqa: PLR1714 - narrows the type
            kind = on_late
        else:
            self._late_topic = on_late
        if kind == "drop" or isinstance(spec, (Count, Global)):
            return spec
        return replace(spec, late=replace(spec.late, on_late=kind))


class Aggregated(Flow):
    """The rows of windows: ``key``, ``start``, ``end``, ``kind`` and the aggregates."""

    value_type: type[WindowRow]

    def on_close(self, handler: _H) -> _H:
        """Call a (coroutine) function with lists of rows of windows that have closed.

        It is called like an agent, after the commit that closed the windows: a failure meets the
        pipeline's ``on_error``, and what it writes to tables and topics counts once.
        """
        add_handler(self, handler, _CLOSED)
        return handler
