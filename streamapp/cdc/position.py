"""Where a change stands in the log of its database: the order that decides which change wins.

A position never comes from a clock of ours. Snapshot reads rank below every streamed change,
since a row that was read may have been changed before the read is delivered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamapp.errors import DecodeError

#: The fields that place a change, as Debezium names them in ``source``.
Source = Mapping[str, Any]

_NUMBERS = re.compile(r"[0-9a-fA-F]+")
#: Characters of a hexadecimal position, four times an XStream one: JSON takes no endless number.
_LONGEST = 512


class Position(msgspec.Struct, frozen=True):
    """A place in the order of one database's changes.

    ``order`` compares from left to right, only between positions of the same ``kind`` and the
    same side of ``streamed``. ``is_exact`` is false where two different changes may share a
    position (see ``_MAY_SHARE``): equality then does not prove a repeat.
    """

    kind: str
    streamed: bool
    order: tuple[int, ...]
    is_exact: bool = True


def compare(left: Position, right: Position) -> int:
    """Return a number below, equal to or above 0 as ``left`` is before, at or after ``right``.

    Raises:
        DecodeError: The positions belong to different kinds of logs and have no order.
    """
    if left.streamed is not right.streamed:
        return 1 if left.streamed else -1
    if left.kind != right.kind:
        message = f"A {left.kind} position cannot be compared with a {right.kind} position"
        raise DecodeError(
            message,
            hint="One replica takes changes of one connector; reset the replica to move it to"
            " another source",
        )
    return (left.order > right.order) - (left.order < right.order)


def position_of(source: Source, *, streamed: bool) -> Position | None:
    """Find the position of a change in its ``source`` block.

    The kind follows from the fields that are there, so that unwrapped rows with a few of them
    work too: PostgreSQL ``sequence`` or ``lsn``, MySQL ``file, pos, row``, SQL Server
    ``commit_lsn, change_lsn, event_serial_no``, Oracle ``commit_scn, scn, rs_id, ssn`` and
    ``lcr_position``, MongoDB ``ts_ms, ord``; else the commit time in the finest unit given.

    Returns:
        ``None`` when the source carries nothing that orders changes.

    Raises:
        DecodeError: A field is there and cannot be read.
    """
    for kind, marker, order_of in _KINDS:
        if source.get(marker) is not None:
            try:
                order = order_of(source)
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                shown = {name: source.get(name) for name in (marker, *_SHOWN.get(kind, ()))}
                message = f"The {kind} position of the change cannot be read from {shown}: {exc}"
                raise DecodeError(message) from exc
            may_share = _MAY_SHARE.get(kind)
            is_exact = may_share is None or not may_share(source)
            return Position(kind, streamed, order, is_exact=is_exact)
    return None


def _postgres_sequence(source: Source) -> tuple[int, ...]:
    sequence = source["sequence"]
    if isinstance(sequence, str):  # a JSON text inside of the JSON text
        sequence = msgspec.json.decode(sequence)
    commit, current = sequence
    return _integer(commit or 0), _integer(current or 0)


def _postgres_lsn(source: Source) -> tuple[int, ...]:
    return (_integer(source["lsn"]),)


def _mysql(source: Source) -> tuple[int, ...]:
    # mysql-bin.1000000 follows mysql-bin.999999: the suffix counts as a number.
    suffix = str(source["file"]).rpartition(".")[2]
    return _integer(suffix), _integer(source["pos"]), _integer(source.get("row") or 0)


def _sqlserver(source: Source) -> tuple[int, ...]:
    commit = _hexadecimal(source["commit_lsn"], parts=3)
    change = _hexadecimal(source.get("change_lsn") or "0:0:0", parts=3)
    return *commit, *change, _integer(source.get("event_serial_no") or 0)


def _oracle(source: Source) -> tuple[int, ...]:
    # Rows of one statement share the SCN: the record set and its sequence tell them apart
    # (LogMiner), or the position of the logical change record (XStream).
    commit = _integer(source.get("commit_scn") or 0)
    record_set = _hexadecimal(source.get("rs_id") or "0.0.0", parts=3)
    lcr = source.get("lcr_position")
    last = () if lcr is None else _hexadecimal(lcr, parts=1)
    return commit, _integer(source["scn"]), *record_set, _integer(source.get("ssn") or 0), *last


def _may_share_scn(source: Source) -> bool:
    return source.get("rs_id") is None and source.get("lcr_position") is None


def _mongodb(source: Source) -> tuple[int, ...]:
    return _integer(source["ts_ms"]), _integer(source["ord"])


def _may_share_cluster_time(source: Source) -> bool:
    # All changes of a transaction have the time of its commit. A source without the field (an old
    # connector, a bare row) does not say whether there was one.
    return source.get("lsid") is not None or source.get("txnNumber", 0) is not None


def _time_ns(source: Source) -> tuple[int, ...]:
    for field, unit_ns in (("ts_ns", 1), ("ts_us", 1_000)):
        if source.get(field) is not None:
            return (_integer(source[field]) * unit_ns,)
    return (_integer(source["ts_ms"]) * 1_000_000,)


def _integer(value: object) -> int:
    """Read a number or its decimal text; a float or a boolean is no position."""
    if isinstance(value, str) or type(value) is int:
        return int(value)
    message = f"{value!r} is not an integer"
    raise TypeError(message)


def _hexadecimal(text: str, *, parts: int) -> tuple[int, ...]:
    if len(text) > _LONGEST:
        message = f"{text[:_LONGEST]!r}... is too long"
        raise ValueError(message)
    numbers = tuple(int(digits, 16) for digits in _NUMBERS.findall(text.replace("0x", " ")))
    if len(numbers) != parts:
        message = f"{text!r} has {len(numbers)} hexadecimal parts, not {parts}"
        raise ValueError(message)
    return numbers


#: Kind, the field that must be there, and how to read it; the first that fits is taken.
_KINDS: tuple[tuple[str, str, Callable[[Source], tuple[int, ...]]], ...] = (
    ("postgresql", "sequence", _postgres_sequence),
    ("sqlserver", "commit_lsn", _sqlserver),
    ("postgresql-lsn", "lsn", _postgres_lsn),
    ("mysql", "file", _mysql),
    ("oracle", "scn", _oracle),
    ("mongodb", "ord", _mongodb),
    ("time", "ts_ms", _time_ns),
)

#: Kinds whose positions may be shared by different changes, and when; the others never are.
_MAY_SHARE: dict[str, Callable[[Source], bool]] = {
    "oracle": _may_share_scn,
    "mongodb": _may_share_cluster_time,
    "time": lambda _source: True,
}

_SHOWN: dict[str, tuple[str, ...]] = {
    "mysql": ("pos", "row"),
    "sqlserver": ("change_lsn", "event_serial_no"),
    "oracle": ("commit_scn", "rs_id", "ssn", "lcr_position"),
    "mongodb": ("ts_ms",),
    "time": ("ts_us", "ts_ns"),
}
