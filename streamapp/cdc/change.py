"""What a change event says, once parsed: a change of one row, or a control record.

Plain values without behaviour of their own; nothing in a message is ever executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from streamapp.cdc.wire import Fields, encode

if TYPE_CHECKING:
    from streamapp.cdc.position import Position

#: A row's columns as plain JSON values.
Row: TypeAlias = Fields


class Op(Enum):
    """What happened to the row; the values are Debezium's letters."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"
    #: A null value after a delete, for compaction. Debezium has no letter for it.
    TOMBSTONE = "tombstone"


class ControlKind(Enum):
    """Records that belong to the connector and change no row."""

    HEARTBEAT = "heartbeat"
    TRANSACTION = "transaction"
    SCHEMA_CHANGE = "schema_change"
    #: A logical decoding message (op ``m``): a prefix and content, no row.
    MESSAGE = "message"
    #: A tombstone without a key, or a null value on a control topic.
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one row, or of all rows of a table (``TRUNCATE``, whose key is ``None``).

    ``table`` is ``schema.table`` (``database.table`` for MySQL, ``database.collection`` for
    MongoDB). ``position`` is ``None`` for a tombstone, and for unwrapped rows that carry no
    position. ``ts_ms`` is the time of the change in the database, else the connector's.
    ``is_wrapped`` is false for a row that lost its envelope in a Connect transformation.
    """

    table: str
    op: Op
    key: Any
    before: Row | None
    after: Row | None
    position: Position | None
    ts_ms: int | None
    is_snapshot: bool = False
    is_wrapped: bool = True
    transaction: Fields | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A record to be acknowledged and counted; ``payload`` is what it said."""

    kind: ControlKind
    payload: Fields


def row_key(key: Any) -> str:  # noqa: ANN401 - a key is any JSON value
    """Render a parsed key as text: the value of its only column, or all columns as JSON.

    Equal keys give equal texts whatever the order of their columns: ``{"id": 7}`` is ``7``,
    ``{"b": 1, "a": "x"}`` is ``{"a":"x","b":1}``. Texts of different tables may be equal.
    """
    if isinstance(key, dict) and len(key) == 1:
        (key,) = key.values()
    return key if isinstance(key, str) else encode(key)
