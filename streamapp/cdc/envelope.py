"""Debezium records: the bytes of key and value to a ``Change`` or a ``Control``.

Three forms are told apart by their shape, never by configuration: the envelope, the envelope
inside of ``{"schema", "payload"}``, and the bare row left by the ExtractNewRecordState
transformation. Source: Debezium's connector and event-flattening documentation.
"""

from __future__ import annotations

from typing import Any, Final

from streamapp.cdc.change import Change, Control, ControlKind, Op, Row
from streamapp.cdc.position import position_of
from streamapp.cdc.wire import Fields, decode
from streamapp.errors import DecodeError

_OPS: Final = {op.value: op for op in Op if op is not Op.TOMBSTONE}
_MESSAGE_OP: Final = "m"

#: Values of ``source.snapshot`` that mean a streamed change. Old versions send booleans.
_STREAMED: Final = (None, "false", False)

_NEEDS_AFTER: Final = {Op.CREATE, Op.UPDATE, Op.READ}

#: The columns that the flattening transformation adds, by the names they have in ``source``.
#: A list, since a table may have columns of its own that start with two underscores.
_ADDED: Final = {
    f"__{prefix}{name}": name
    for prefix in ("", "source_")
    for name in (
        *("op", "deleted", "schema", "table", "db", "collection", "snapshot"),
        *("ts_ms", "ts_us", "ts_ns", "sequence", "lsn", "txId", "file", "pos", "row", "ord"),
        *("commit_lsn", "change_lsn", "event_serial_no", "scn", "commit_scn", "rs_id", "ssn"),
        *("lcr_position", "lsid", "txnNumber"),
    )
}

_HEARTBEAT_TOPIC: Final = "__debezium-heartbeat"

#: Fields that only a record of this kind has all of.
_CONTROL_SHAPES: Final = (
    (ControlKind.TRANSACTION, frozenset({"status", "id", "event_count", "data_collections"})),
    (ControlKind.SCHEMA_CHANGE, frozenset({"source", "databaseName", "ddl"})),
    (ControlKind.SCHEMA_CHANGE, frozenset({"source", "databaseName", "tableChanges"})),
)


def parse(key: bytes | None, value: bytes | None, *, topic: str) -> Change | Control:
    """Parse one record of a change topic.

    Args:
        key: The record's key; null for truncates and tables without a key.
        value: The record's value; null is a tombstone.
        topic: Where the record came from: it names the table where the record does not, and
            tells heartbeats.

    Raises:
        DecodeError: It is neither a change nor a control record; the text says why.
    """
    row_id = None if key is None else _payload(decode(key, "key"))
    fields = None if value is None else _payload(decode(value, "value"))
    if fields is None:
        return _tombstone(row_id, topic)
    if not isinstance(fields, dict):
        message = f"The value of a change event is a JSON object, not {type(fields).__name__}"
        raise DecodeError(message)
    control = _control_kind(row_id, fields, topic)
    if control is not None:
        return Control(control, fields)
    if isinstance(fields.get("op"), str) and isinstance(fields.get("source"), dict):
        return _wrapped(row_id, fields, topic)
    if "op" in fields and ("before" in fields or "after" in fields):
        message = 'The change event has no "source" object or no "op" text'
        raise DecodeError(message, hint="Send the whole Debezium envelope, or the bare row")
    return _unwrapped(row_id, fields, topic)


def table_of_topic(topic: str) -> str:
    """Name the table of a topic that follows Debezium's ``prefix.schema.table``.

    The last two parts count; a topic of fewer parts is its own table.
    """
    return ".".join(topic.split(".")[-2:])


def _payload(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Take the payload out of Connect's schema block, if there is one."""
    if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
        schema = value["schema"]
        if schema is None or (isinstance(schema, dict) and "type" in schema):
            return value["payload"]
    return value


def _tombstone(row_id: Any, topic: str) -> Change | Control:  # noqa: ANN401 - any JSON value
    if row_id is None or topic.startswith(_HEARTBEAT_TOPIC):
        return Control(ControlKind.EMPTY, {})
    return Change(table_of_topic(topic), Op.TOMBSTONE, row_id, None, None, None, None)


def _control_kind(row_id: object, fields: Fields, topic: str) -> ControlKind | None:
    # First the cheapest and most frequent answer: an envelope of a row.
    if fields.get("op") == _MESSAGE_OP and "message" in fields:
        return ControlKind.MESSAGE
    if "op" in fields:
        return None
    is_named = isinstance(row_id, dict) and "serverName" in row_id
    if topic.startswith(_HEARTBEAT_TOPIC) or (is_named and fields.keys() == {"ts_ms"}):
        return ControlKind.HEARTBEAT
    return next((kind for kind, shape in _CONTROL_SHAPES if shape <= fields.keys()), None)


def _wrapped(row_id: Any, fields: Fields, topic: str) -> Change:  # noqa: ANN401 - any JSON value
    op = _OPS.get(fields["op"])
    if op is None:
        message = f"Unknown operation {fields['op']!r} in the change event"
        raise DecodeError(message, hint=f"Known are {', '.join([*_OPS, _MESSAGE_OP])}")
    source: Fields = fields["source"]
    before, after = _image(fields, "before"), _image(fields, "after")
    if op in _NEEDS_AFTER and after is None:
        message = f'The change event of operation {op.value!r} has no "after" image'
        raise DecodeError(
            message, hint="A MongoDB connector needs capture.mode=change_streams_update_full"
        )
    is_snapshot = op is Op.READ or source.get("snapshot") not in _STREAMED
    return Change(
        table=_table_of_source(source) or table_of_topic(topic),
        op=op,
        key=row_id,
        before=before,
        after=after,
        position=position_of(source, streamed=not is_snapshot),
        ts_ms=_first_integer(source.get("ts_ms"), fields.get("ts_ms")),
        is_snapshot=is_snapshot,
        transaction=fields.get("transaction"),
    )


def _image(fields: Fields, name: str) -> Row | None:
    image = fields.get(name)
    if isinstance(image, str):  # MongoDB sends its documents as JSON texts
        image = decode(image.encode(), name)
    if image is None or isinstance(image, dict):
        return image
    message = f'"{name}" of a change event is an object or null, not {type(image).__name__}'
    raise DecodeError(message)


def _table_of_source(source: Fields) -> str | None:
    """Name the table as the topic would: by schema where there is one, else by database."""
    table = source.get("table") or source.get("collection")
    if not table:
        return None
    owner = source.get("schema") or source.get("db")
    return f"{owner}.{table}" if owner else str(table)


def _unwrapped(row_id: Any, fields: Fields, topic: str) -> Change:  # noqa: ANN401 - any JSON value
    """Read a bare row and the fields that the transformation was told to add to it."""
    row = {name: value for name, value in fields.items() if name not in _ADDED}
    # The connector's own ts_ms gives way to that of the database.
    plain_first = sorted(fields.keys() & _ADDED.keys(), reverse=True)
    added = {_ADDED[name]: fields[name] for name in plain_first}
    op = _unwrapped_op(added)
    is_snapshot = op is Op.READ or added.get("snapshot") not in _STREAMED
    return Change(
        table=(_table_of_source(added) if "schema" in added else None) or table_of_topic(topic),
        op=op,
        key=row_id,
        before=row if op is Op.DELETE else None,
        after=None if op is Op.DELETE else row,
        position=position_of(added, streamed=not is_snapshot),
        ts_ms=_first_integer(added.get("ts_ms")),
        is_snapshot=is_snapshot,
        is_wrapped=False,
    )


def _unwrapped_op(added: Fields) -> Op:
    if added.get("deleted") in ("true", True):
        return Op.DELETE
    op = _OPS.get(added.get("op") or Op.UPDATE.value)
    if op is None:
        message = f"Unknown operation {added['op']!r} in the unwrapped row"
        raise DecodeError(message, hint=f"Known are {', '.join(_OPS)}")
    return op


def _first_integer(*values: object) -> int | None:
    return next((value for value in values if type(value) is int), None)
