"""Windows and aggregates in YAML: the words of Python, with the same options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import Field, create_model

from streamapp.core.aggregates import Aggregate, constructors
from streamapp.core.windows import WindowSpec
from streamapp.pipelines import words
from streamapp.pipelines.yaml_schema import Count, Duration, Model, Text

#: From the text of a field to a field's name or the function of a value.
Resolve = Callable[[str], Any]


class Window(Model):
    """A window: ``spec`` is what ``Flow.window`` takes."""

    def spec(self) -> WindowSpec:
        """Return the window."""
        raise NotImplementedError


class Tumbling(Window):
    """See ``streamapp.tumbling``."""

    tumbling: Duration
    offset: Duration = 0
    late: Duration = 0

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        return words.tumbling(self.tumbling, offset=self.offset, late=self.late)


class Hopping(Window):
    """See ``streamapp.hopping``."""

    hopping: Duration
    slide: Duration
    offset: Duration = 0
    late: Duration = 0

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        return words.hopping(self.hopping, self.slide, offset=self.offset, late=self.late)


class Sliding(Window):
    """See ``streamapp.sliding``."""

    sliding: Duration
    late: Duration = 0

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        return words.sliding(self.sliding, late=self.late)


class Session(Window):
    """See ``streamapp.session``."""

    session: Duration
    late: Duration = 0

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        return words.session(self.session, late=self.late)


class CountWindow(Window):
    """See ``streamapp.count_window``."""

    count_window: Count

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        return words.count_window(self.count_window)


class Trigger(Model):
    """When a window for all time emits."""

    count: Count | None = None
    every: Duration = None


class GlobalWindow(Window):
    """See ``streamapp.global_window``."""

    global_window: Trigger

    def spec(self) -> WindowSpec:
        """See ``Window``."""
        trigger = self.global_window
        return words.global_window(count=trigger.count, every=trigger.every)


WINDOWS: Final[Mapping[str, type[Window]]] = {
    "tumbling": Tumbling,
    "hopping": Hopping,
    "sliding": Sliding,
    "session": Session,
    "count_window": CountWindow,
    "global_window": GlobalWindow,
}


# --- aggregates ----------------------------------------------------------------------------------


class CountOf(Model):
    """See ``streamapp.count``."""

    count: Text | None = None


class TopK(Model):
    """See ``streamapp.top_k``."""

    top_k: Text
    k: Count
    by: Text | None = None


class Quantile(Model):
    """See ``streamapp.quantile``."""

    quantile: Text
    q: float = Field(ge=0, le=1)


class Collect(Model):
    """See ``streamapp.collect``."""

    collect: Text
    limit: Count


_OF_A_FIELD: Final = (
    "sum",
    "min",
    "max",
    "avg",
    "stddev",
    "stddev_sample",
    "first",
    "last",
    "distinct_count",
)


def _of_a_field(word: str) -> type[Model]:
    fields: dict[str, Any] = {word: (Text, ...)}
    return create_model(word, __base__=Model, **fields)


AGGREGATES: Final[Mapping[str, type[Model]]] = {
    "count": CountOf,
    **{word: _of_a_field(word) for word in _OF_A_FIELD},
    "top_k": TopK,
    "quantile": Quantile,
    "collect": Collect,
}
#: Options of aggregates that name a field.
_FIELDS: Final = ("by",)


def aggregate(word: str, asked: Model, resolve: Resolve) -> Aggregate:
    """Return the aggregate that a part asks for.

    Raises:
        ConfigError: A field or an option cannot be.
    """
    options = asked.model_dump(exclude_unset=True)
    given = options.pop(word)
    options |= {name: resolve(options[name]) for name in _FIELDS if options.get(name) is not None}
    make: Callable[..., Aggregate] = getattr(constructors, word)
    return make(None if given is None else resolve(given), **options)
