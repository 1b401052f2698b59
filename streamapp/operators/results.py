"""The rows that windows emit: one immutable record type for each set of aggregates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import msgspec

from streamapp.errors import ConfigError

#: Before the window has closed; it may still change.
UPDATE: Final = "update"
#: The window has closed.
FINAL: Final = "final"
#: The window had closed and changed again: a late record that was still allowed.
LATE: Final = "late"
#: Records that came later than allowed, aggregated by themselves: to be added to the final row.
CORRECTION: Final = "correction"
#: The row that was emitted for this window before is void: its session became part of another, or
#: the start of its global window has moved.
RETRACT: Final = "retract"

if TYPE_CHECKING:
    Key = Any
else:
    #: What a key may be, so that the tuple of a ``group_by`` by several fields comes back as one.
    Key = str | int | float | bool | tuple[Any, ...] | None

#: Fields of every window row, before those of the aggregates.
WINDOW_FIELDS: Final = ("key", "start", "end", "kind")


class WindowRow(msgspec.Struct, frozen=True):
    """What a window says of a key; subclasses add a field for each aggregate.

    ``[start, end)`` in ms since 1970; ``kind`` is one of ``update``, ``final``, ``late``,
    ``correction``, ``retract``.
    """

    key: Key
    start: int
    end: int
    kind: str
    #: Whether key and start name one window; several count windows may begin at one time.
    has_name: ClassVar[bool] = True

    @property
    def is_final(self) -> bool:
        """Whether the window had closed when the row was emitted."""
        return self.kind in (FINAL, LATE)


def row_type(name: str, fields: Sequence[str], *, has_name: bool = True) -> type[WindowRow]:
    """Return the type of the rows of a pipeline, with these fields after those of every row.

    It is one type for rows that look alike, so that flows of them can be merged and stay such.

    Raises:
        ConfigError: A field's name is taken, or is no name.
    """
    for field in fields:
        is_taken = field in (*WINDOW_FIELDS, "is_final") or fields.count(field) > 1
        if is_taken or field.startswith("__") or not field.isidentifier():
            msg = f"Pipeline {name}: an aggregate cannot be called {field!r}"
            hint = (
                "Take another Python name: rows have key, start, end, kind, sessions first and last"
            )
            raise ConfigError(msg, hint=hint)
    return _row_type(name, tuple(fields), has_name)


@cache
def _row_type(name: str, fields: tuple[str, ...], has_name: bool) -> type[WindowRow]:
    title = "".join(part.capitalize() for part in name.replace("_", "-").split("-")) + "Row"
    made = msgspec.defstruct(
        title,
        [(field, Any) for field in fields],
        bases=(WindowRow,),
        frozen=True,
        namespace={"has_name": has_name},
    )
    return cast("type[WindowRow]", made)
