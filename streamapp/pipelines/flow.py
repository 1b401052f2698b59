"""The words of a pipeline: each adds a step and returns the flow behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from streamapp.core.buffer import Bounds, Excess
from streamapp.core.duration import to_ms
from streamapp.core.rate import Rate
from streamapp.core.sizes import to_bytes
from streamapp.core.windows import WindowSpec
from streamapp.errors import ConfigError
from streamapp.operators.buffer import BufferRows, Limits, buffer_view
from streamapp.operators.dedup import Dedup, dedup_view
from streamapp.operators.fused import Filter, FlatMap, KeyBy, Map, Peek, Step, function_of
from streamapp.operators.join import AsOfJoin, JoinKind, Pair, TableJoin, WindowJoin, join_view
from streamapp.operators.limit import RateLimit
from streamapp.pipelines.checks import check_field
from streamapp.pipelines.codecs import StateCodec
from streamapp.pipelines.nodes import Merge, Node, Place, Regroup, Stateful, Stateless
from streamapp.pipelines.sinks import add_sink

if TYPE_CHECKING:
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.pipelines.windowed import Windowed
    from streamapp.pipelines.words import Duration
    from streamapp.state.operator_table import View
    from streamapp.state.table import Table

Field = str | Callable[[Any], Any]


def _hidden(raw: bytes, data: bytes) -> None:
    """Show nothing of a state that only its operator can read."""
    del raw, data


class Flow:
    """Records between two steps. ``value_type`` is the type of the values where it is known."""

    def __init__(self, pipeline: Pipeline, node: Node, value_type: Any = None) -> None:
        self.pipeline = pipeline
        self.node = node
        self.value_type = value_type

    # --- one record at a time --------------------------------------------------------------------

    def map(self, function: Callable[[Any], Any], *, into: Any = None) -> Flow:
        """Replace each value by ``function(value)``.

        ``into`` is the type of the new values, by default what the function's annotation says. It
        is needed where values are kept (joins) or go through a topic (``group_by``), unless they
        are plain JSON.
        """
        return self._step(Map(function), into or _returned(function))

    def filter(self, predicate: Callable[[Any], Any]) -> Flow:
        """Keep the records for which ``predicate(value)`` is true."""
        return self._step(Filter(predicate), self.value_type)

    def flat_map(self, function: Callable[[Any], Any], *, into: Any = None) -> Flow:
        """Replace each value by those that ``function(value)`` returns."""
        return self._step(FlatMap(function), into)

    def peek(self, function: Callable[[Any], Any]) -> Flow:
        """Call ``function(value)`` and pass the record on as it is."""
        return self._step(Peek(function), self.value_type)

    def branch(self, **predicates: Callable[[Any], Any]) -> dict[str, Flow]:
        """Split by predicates: each record goes to the first that is true, the rest nowhere."""
        tests = list(predicates.values())
        return {
            name: self.filter(_first_true(tests[:n], test))
            for n, (name, test) in enumerate(predicates.items())
        }

    def merge(self, *others: Flow) -> Flow:
        """Go on with the records of this flow and of others, as they come."""
        nodes = (self.node, *(other.node for other in others))
        same = all(other.value_type is self.value_type for other in others)
        node = self._add(Merge(self._label("merge"), nodes))
        return Flow(self.pipeline, node, self.value_type if same else None)

    # --- keys ------------------------------------------------------------------------------------

    def key_by(self, key: Field) -> Flow:
        """Give records another key without moving them.

        For sources in which all records of a key are in one partition already; elsewhere each
        partition has rows of its own for the same key: use ``group_by``.
        """
        check_field(f"Pipeline {self.pipeline.name}", key, self.value_type)
        return self._step(KeyBy(key), self.value_type)

    def group_by(
        self, key: Field, *, name: str | None = None, partitions: int | None = None
    ) -> Flow:
        """Give records another key and bring all records of a key together, through a topic.

        Args:
            key: A field's name, or a function of the value.
            name: Part of the topic's name.
            partitions: Partitions of that topic; by default as many as the source has.
        """
        keyed = self.key_by(key)
        label = self.pipeline.topic_label(name, key if isinstance(key, str) else "group")
        topic = self.pipeline.app.regroup_topic(
            self.pipeline.name, label, self.value_type, partitions
        )
        node = self._add(
            Regroup(self._label("group-by"), (keyed.node,), topic=topic, value_type=self.value_type)
        )
        return Flow(self.pipeline, node, self.value_type)

    # --- with state ------------------------------------------------------------------------------

    def window(self, spec: WindowSpec, *, on_late: Any = "drop") -> Windowed:
        """Collect records by key and window; go on with ``.aggregate(...)``.

        Args:
            spec: ``streamapp.tumbling("1m", late="2m")`` and the like.
            on_late: What becomes of records later than allowed, always counted: ``"drop"``,
                ``"correct"`` (a row of them alone, of kind ``correction``), or a topic.
        """
        from streamapp.pipelines.windowed import Windowed  # noqa: PLC0415 - its result is a Flow

        return Windowed(self, spec, on_late)

    def dedup(self, key: Field, *, within: Duration) -> Flow:
        """Drop records whose id was seen before, for the same key, within a time.

        Args:
            key: What is the same in a repeated record, an id.
            within: How far apart in event time two records are still taken for one.
        """
        within_ms = to_ms(within)
        check_field(f"Pipeline {self.pipeline.name}", key, self.value_type)
        return self._stateful(
            "dedup",
            lambda place: Dedup(key, within_ms, place.state),
            (self,),
            self.value_type,
            view=dedup_view,
        )

    def join(
        self,
        other: Flow,
        *,
        before: Duration = 0,
        after: Duration = 0,
        kind: JoinKind = "inner",
        combine: Callable[[Any, Any], Any] = Pair,
    ) -> Flow:
        """Join with records of another flow that have the same key and a time not far away.

        A record at ``t`` meets those at ``[t - before, t + after]``, both included. Rows without a
        partner (``kind`` left, outer) come when no partner can come any more.
        """
        bounds = to_ms(before), to_ms(after)
        codecs = StateCodec(self.value_type), StateCodec(other.value_type)
        return self._stateful(
            "join",
            lambda place: WindowJoin(*bounds, kind, combine, place.state, codecs),
            (self, other),
            _returned(combine),
            view=join_view(codecs),
        )

    def join_as_of(
        self,
        other: Flow,
        *,
        within: Duration | None = None,
        kind: Literal["inner", "left"] = "inner",
        combine: Callable[[Any, Any], Any] = Pair,
    ) -> Flow:
        """Join each record with the latest one of the other flow at or before its time.

        ``within`` is how much older that may be; ``None`` for no limit, which keeps the latest
        record of each key for good.
        """
        within_ms = None if within is None else to_ms(within)
        codecs = StateCodec(self.value_type), StateCodec(other.value_type)
        return self._stateful(
            "as-of",
            lambda place: AsOfJoin(within_ms, combine, place.state, codecs, kind),
            (self, other),
            _returned(combine),
            view=join_view(codecs),
        )

    def join_table(
        self,
        table: Table,
        *,
        kind: Literal["inner", "left"] = "inner",
        combine: Callable[[Any, Any], Any] = Pair,
    ) -> Flow:
        """Join each record with the row of its key in a table with the same partitions."""

        def make(place: Place) -> TableJoin:
            return TableJoin(lambda key: place.read(table, key), kind, combine)

        return self._stateful("join-table", make, (self,), _returned(combine), table)

    def rate_limit(
        self,
        rate: int,
        *,
        per: Duration = "1s",
        burst: int | None = None,
        by_key: bool = False,
        excess: Literal["drop", "delay"] = "drop",
    ) -> Flow:
        """Let no more than ``rate`` records pass in ``per`` of wall time, in each partition."""
        per_ms = to_ms(per)
        most = burst or rate
        return self._stateful(
            "rate-limit",
            lambda place: RateLimit(rate, per_ms, most, by_key, excess, place.now_ms),
            (self,),
            self.value_type,
            view=None,
            may_wait=excess == "delay",
        )

    def buffer(  # noqa: PLR0913 - what a buffer is made of
        self,
        items: int,
        *,
        rate: int,
        per: Duration = "1s",
        burst: int | None = None,
        size: str | int | None = None,
        when_full: Excess = "block",
        sample_every: int = 10,
    ) -> Flow:
        """Hold up to ``items`` rows, which leave at most ``rate`` in ``per`` of wall time.

        For ends that take no more than that: a burst is held instead of dropped. What is held is
        part of the state and survives the worker. Each partition has a buffer of its own.

        Args:
            items: How many rows are held.
            rate: How many rows leave in ``per``, ``burst`` at once (by default as many).
            per: See ``rate``.
            burst: See ``rate``.
            size: How many bytes are held ("1MiB"); ``None`` for no limit.
            when_full: ``"block"``: the source waits; ``"drop_newest"``, ``"drop_oldest"``,
                ``"sample"`` (of ``sample_every`` rows one takes the place of the oldest): counted;
                ``"fail"``: the record meets the error policy.
            sample_every: See ``when_full``.

        Raises:
            ConfigError: A bound is none, or there is no such policy.
        """
        if when_full not in get_args(Excess):
            msg = f"Pipeline {self.pipeline.name}: buffer(when_full={when_full!r})"
            raise ConfigError(msg, hint=f"Use one of {', '.join(get_args(Excess))}")
        bounds = Bounds(items, None if size is None else to_bytes(size))
        limits = Limits(bounds, Rate(rate, to_ms(per), burst or rate), when_full, sample_every)
        codec = StateCodec(self.value_type)
        return self._stateful(
            "buffer",
            lambda place: BufferRows(limits, codec, place.state, place.now_ms),
            (self,),
            self.value_type,
            view=buffer_view,
            may_wait=when_full == "block",
            is_late=True,
        )

    # --- ends ------------------------------------------------------------------------------------

    def to(
        self, *, table: str | None = None, topic: Any = None, sink: Any = None, keep: Any = "7d"
    ) -> Flow:
        """Write the rows; may be called several times, and returns this flow.

        Args:
            table: Name of a new table that shows them, by key (and start of the window).
            topic: Topic, or its name, that they are sent to, under their key.
            sink: A function (or coroutine function) that is called with lists of rows.
            keep: How long, in event time, windows stay in the table after their end.
        """
        add_sink(self, table=table, topic=topic, sink=sink, keep=keep)
        return self

    # --- inside ----------------------------------------------------------------------------------

    def _add(self, node: Any) -> Any:
        return self.pipeline.add(node)

    def _label(self, kind: str) -> str:
        return self.pipeline.label(kind)

    def _step(self, step: Step, value_type: Any) -> Flow:
        function_of(step)  # its mistakes are told here, where it is declared
        node = self._add(
            Stateless(self._label(type(step).__name__.lower()), (self.node,), step=step)
        )
        return Flow(self.pipeline, node, value_type)

    def _stateful(  # noqa: PLR0913 - what a step is made of
        self,
        kind: str,
        make: Callable[[Place], Any],
        parents: tuple[Flow, ...],
        value_type: Any,
        reads: Table | None = None,
        *,
        view: View | None = _hidden,
        **traits: bool,
    ) -> Flow:
        for parent in parents:
            if parent.pipeline is not self.pipeline:
                msg = f"Pipeline {self.pipeline.name}: {kind} with a flow of another pipeline"
                raise ConfigError(msg, hint="Begin both flows with .source() of one pipeline")
        label = self._label(kind)
        table = None
        if view is not None and reads is None:
            table = self.pipeline.state_table(label, view, f"State of {label}")
        nodes = tuple(parent.node for parent in parents)
        node = Stateful(label, nodes, make=make, table=table, reads=reads, kind=kind, **traits)
        return Flow(self.pipeline, self._add(node), value_type)


def _first_true(
    before: list[Callable[[Any], Any]], test: Callable[[Any], Any]
) -> Callable[[Any], bool]:
    return lambda value: not any(other(value) for other in before) and bool(test(value))


def _returned(function: Callable[..., Any]) -> Any:
    """Return the type that a function is annotated to return (a class returns itself)."""
    if isinstance(function, type):
        return function
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None
