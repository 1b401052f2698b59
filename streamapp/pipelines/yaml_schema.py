"""What a pipeline in YAML may say: one model for each step, window, aggregate and end.

A step is a mapping with its word, ``dedup: order_id``, and beside it the options of that word,
``within: 10m``: those of the method of ``Flow`` with the same name. Fields that are not
known are refused, all faults of a part are told at once, and nothing is imported or declared here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from streamapp.core.buffer import Excess
from streamapp.core.duration import to_ms
from streamapp.core.sizes import to_bytes
from streamapp.errors import ConfigError


class Model(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _parsed_by(parse: Callable[[Any], int]) -> BeforeValidator:
    """Make a validator of a parser; what was written is kept, as the words of ``Flow`` take it."""

    def validate(value: Any) -> Any:
        try:
            return value if value is None else (parse(value), value)[1]
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc

    return BeforeValidator(validate)


def _topic(value: Any) -> Any:
    return {"topic": value} if isinstance(value, str) else value


#: ``10m``, ``250ms`` or a number of seconds.
Duration = Annotated[Any, _parsed_by(to_ms)]
Size = Annotated[Any, _parsed_by(to_bytes)]
#: An expression, or ``module:function``.
Text = Annotated[str, Field(min_length=1)]
#: A field's name, an expression or ``module:function``; several for a key of several parts.
Key = Annotated[
    list[Text],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
]
#: A text is an expression; what is none stands for itself.
Fields = dict[str, str | int | float | bool | None]
Combine = Text | Fields | None
#: What becomes of a record that fails.
Policy = Literal["retry", "dead_letter", "skip", "stop"]
Count = Annotated[int, Field(ge=1)]


class Source(Model):
    """A topic: its name and how its records are read, or ``module:topic``, declared in Python."""

    topic: Text
    key: str | None = None
    value: str | None = None
    event_time: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] | None = None
    out_of_order: Duration = None
    idle_after: Duration = None
    max_future: Duration = None
    advance_on_idle: Literal["no", "wallclock"] | None = None
    partitions: Count | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What was said, besides the topic and the types."""
        return self.model_dump(exclude={"topic", "key", "value"}, exclude_unset=True)


class OnError(Model):
    """See ``streamapp.ErrorPolicy``."""

    retries: Annotated[int, Field(ge=0)] = 3
    backoff: Duration = "100ms"
    then: Policy = "dead_letter"


class Flow(Model):
    """Steps that begin with the records of a source, or of another flow."""

    begin: Text = Field(alias="from")
    steps: Annotated[list[Any], Field(min_length=1)]


class Pipeline(Model):
    """A document: one ``source`` with its ``steps``, or several ``sources`` with ``flows``."""

    pipeline: Text
    on_error: Policy | OnError | None = None
    source: Annotated[Source | None, BeforeValidator(_topic)] = None
    sources: dict[str, Annotated[Source, BeforeValidator(_topic)]] = {}
    steps: list[Any] = []
    flows: dict[str, Flow] = {}


# --- steps ---------------------------------------------------------------------------------------


class Filter(Model):
    """See ``Flow.filter``."""

    filter: Text


class Map(Model):
    """See ``Flow.map``; a mapping makes a value of expressions, one for each field."""

    map: Text | Fields
    into: str | None = None


class FlatMap(Model):
    """See ``Flow.flat_map``."""

    flat_map: Text
    into: str | None = None


class Peek(Model):
    """See ``Flow.peek``."""

    peek: Text


class Branch(Model):
    """See ``Flow.branch``: each name is that of a flow."""

    branch: Annotated[dict[str, Text], Field(min_length=1)]


class Merge(Model):
    """See ``Flow.merge``."""

    merge: Key


class KeyBy(Model):
    """See ``Flow.key_by``."""

    key_by: Key


class GroupBy(Model):
    """See ``Flow.group_by``."""

    group_by: Key
    name: str | None = None
    partitions: Count | None = None


class Dedup(Model):
    """See ``Flow.dedup``."""

    dedup: Key
    within: Duration


class Join(Model):
    """See ``Flow.join``; ``join`` names the other flow."""

    join: Text
    before: Duration = 0
    after: Duration = 0
    kind: Literal["inner", "left", "outer"] = "inner"
    combine: Combine = None


class JoinAsOf(Model):
    """See ``Flow.join_as_of``."""

    join_as_of: Text
    within: Duration = None
    kind: Literal["inner", "left"] = "inner"
    combine: Combine = None


class JoinTable(Model):
    """See ``Flow.join_table``; a table of the application by its name, or ``module:table``."""

    join_table: Text
    kind: Literal["inner", "left"] = "inner"
    combine: Combine = None


class RateLimit(Model):
    """See ``Flow.rate_limit``."""

    rate_limit: Count
    per: Duration = "1s"
    burst: Count | None = None
    by_key: bool = False
    excess: Literal["drop", "delay"] = "drop"


class Buffer(Model):
    """See ``Flow.buffer``."""

    buffer: Count
    rate: Count
    per: Duration = "1s"
    burst: Count | None = None
    size: Size = None
    when_full: Excess = "block"
    sample_every: Count = 10


class Window(Model):
    """See ``Flow.window``, ``Windowed.emit`` and ``Windowed.aggregate``."""

    window: Any
    aggregate: Annotated[dict[str, Any], Field(min_length=1)]
    on_late: str = "drop"
    emit: Literal["close", "update"] | None = None
    every: Duration = None


class Target(Model):
    """Where rows go; at least one."""

    table: str | None = None
    topic: str | None = None
    sink: str | None = None
    keep: Duration = "7d"


class To(Model):
    """See ``Flow.to``."""

    to: Target


#: The steps by their words.
STEPS: Final[Mapping[str, type[Model]]] = {
    "filter": Filter,
    "map": Map,
    "flat_map": FlatMap,
    "peek": Peek,
    "branch": Branch,
    "merge": Merge,
    "key_by": KeyBy,
    "group_by": GroupBy,
    "dedup": Dedup,
    "join": Join,
    "join_as_of": JoinAsOf,
    "join_table": JoinTable,
    "rate_limit": RateLimit,
    "buffer": Buffer,
    "window": Window,
    "to": To,
}
