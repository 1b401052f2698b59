"""The words of a pipeline: each adds a step and returns the flow behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from streamapp.core.duration import to_ms
from streamapp.core.windows import WindowSpec
from streamapp.errors import ConfigError
from streamapp.operators.dedup import Dedup, dedup_view
from streamapp.operators.fused import FlatMap, KeyBy, Map, Peek
from streamapp.operators.join import AsOfJoin, JoinKind, Pair, TableJoin, WindowJoin, join_view
from streamapp.pipelines.checks import check_field, check_joined, check_word
from streamapp.pipelines.codecs import StateCodec
from streamapp.pipelines.conditions import Predicate, condition_of, first_true
from streamapp.pipelines.flow_paced import PacedFlow
from streamapp.pipelines.nodes import Merge, Node, Place, Regroup
from streamapp.pipelines.sinks import add_sink

if TYPE_CHECKING:
    from streamapp.pipelines.windowed import Windowed
    from streamapp.pipelines.words import Duration
    from streamapp.state.table import Table

Field = str | Callable[[Any], Any]


class Flow(PacedFlow):
    """Records between two steps. ``value_type`` is the type of the values where it is known."""

    # --- one record at a time --------------------------------------------------------------------

    def map(self, function: Callable[[Any], Any], *, into: Any = None) -> Flow:
        """Replace each value by ``function(value)``.

        ``into`` is the type of the new values, by default what the function's annotation says. It
        is needed where values are kept (joins) or go through a topic (``group_by``), unless they
        are plain JSON.
        """
        return self._step(Map(function), into or _returned(function))

    def filter(self, predicate: Predicate) -> Flow:
        """Keep the records for which ``predicate(value)`` is true.

        A text is an expression over the fields, ``"amount > 90"``, as in YAML. Where it compares
        fields with constants, no object is made of a record that does not pass.
        """
        where = f"Pipeline {self.pipeline.name}: filter"
        condition = condition_of(where, predicate, self.value_type)
        return self._step(condition.step(), self.value_type)

    def flat_map(self, function: Callable[[Any], Any], *, into: Any = None) -> Flow:
        """Replace each value by those that ``function(value)`` returns."""
        return self._step(FlatMap(function), into)

    def peek(self, function: Callable[[Any], Any]) -> Flow:
        """Call ``function(value)`` and pass the record on as it is."""
        return self._step(Peek(function), self.value_type)

    def branch(self, /, **predicates: Predicate) -> dict[str, Flow]:
        """Split by predicates: each record goes to the first that is true, the rest nowhere.

        They are what ``filter`` takes.
        """
        where = f"Pipeline {self.pipeline.name}: branch"
        tests = [
            condition_of(f"{where} {name}", predicate, self.value_type)
            for name, predicate in predicates.items()
        ]
        return {
            name: self.filter(first_true(tests[:n], tests[n])) for n, name in enumerate(predicates)
        }

    def merge(self, *others: Flow) -> Flow:
        """Go on with the records of this flow and of others, as they come."""
        self._check_parents("merge", others)
        nodes = (self.node, *(other.node for other in others))
        same = all(other.value_type is self.value_type for other in others)
        node = self._add(Merge(self._label("merge"), nodes))
        return self._behind(node, self.value_type if same else None)

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
        return self._behind(node, self.value_type)

    # --- with state ------------------------------------------------------------------------------

    def window(self, spec: WindowSpec, *, on_late: Any = "drop") -> Windowed:
        """Collect records by key and window; go on with ``.aggregate(...)``.

        Args:
            spec: ``streamapp.tumbling("1m", late="2m")`` and the like.
            on_late: What becomes of records later than allowed, always counted: ``"drop"``,
                ``"correct"`` (a row of them alone, of kind ``correction``), or a topic.
        """
        from streamapp.pipelines.windowed import Windowed  # noqa: PLC0415 - its result is a Flow

        if not isinstance(spec, WindowSpec):
            msg = f"Pipeline {self.pipeline.name}: {spec!r} is no window"
            raise ConfigError(msg, hint='Give streamapp.tumbling("1m"), hopping, session, ...')
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
        self._check_kind("join", kind, get_args(JoinKind))
        self._check_parents("join", (other,))
        bounds = to_ms(before), to_ms(after)
        codecs = StateCodec(self.value_type), StateCodec(other.value_type)
        return self._stateful(
            "join",
            lambda place: WindowJoin(*bounds, kind, combine, place.state, codecs),
            (self, other),
            _joined(combine, self.value_type, other.value_type),
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
        self._check_kind("join_as_of", kind)
        self._check_parents("join_as_of", (other,))
        within_ms = None if within is None else to_ms(within)
        codecs = StateCodec(self.value_type), StateCodec(other.value_type)
        return self._stateful(
            "as-of",
            lambda place: AsOfJoin(within_ms, combine, place.state, codecs, kind),
            (self, other),
            _joined(combine, self.value_type, other.value_type),
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
        self._check_kind("join_table", kind)
        check_joined(f"Pipeline {self.pipeline.name}: join_table", table)

        def make(place: Place) -> TableJoin:
            is_lasting = table.spec.ttl_ms is None
            move_to = None if is_lasting else place.move_to
            return TableJoin(lambda key: place.read(table, key), kind, combine, move_to)

        value_type = _joined(combine, self.value_type, table.spec.value_type)
        return self._stateful("join-table", make, (self,), value_type, table)

    def _check_kind(
        self, word: str, kind: object, kinds: Sequence[str] = ("inner", "left")
    ) -> None:
        check_word(f"Pipeline {self.pipeline.name}: {word}", "kind", kind, kinds)

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

    def _behind(self, node: Node, value_type: Any) -> Flow:
        return Flow(self.pipeline, node, value_type)


def _joined(combine: Callable[..., Any], left: Any, right: Any) -> Any:
    """Return the type of what a join brings: a pair holds values of both flows."""
    if combine is not Pair:
        return _returned(combine)
    pair: Any = Pair
    return pair[tuple([Any if kind is None else kind | None for kind in (left, right)])]


def _returned(function: Callable[..., Any]) -> Any:
    """Return the type that a function is annotated to return (a class returns itself)."""
    if isinstance(function, type):
        return function
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):
        return None
