"""Finds a hole in a RocksDB database that RocksDB 9 itself opens without a word.

Every write has sequence numbers. The manifest names the last one that reached the table files; the
logs hold the rest. When the manifest lost its tail, or a power cut
kept a later log and lost the end of an earlier one, RocksDB replays what is left: rows of the lost
steps stay old under rows of later ones. The rule checked here, before anything is opened::

    last in tables + 1  >=  first of log 1,   last of log i + 1  >=  first of log i+1

It only reads, and looks at no checksum: RocksDB does. Layout: RocksDB's log_format.h, and the first
fields of version_edit.h.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES: Final = 32 * 1024
_FRAGMENT: Final = Struct("<IHB")  # checksum, length, type
_BATCH: Final = Struct("<QI")  # first sequence number, number of sequence numbers
_WHOLE: Final = 1
_FIRST: Final = 2
_LAST: Final = 4
#: Bytes of a record that are looked at: more than the leading fields of an edit ever take.
_HEAD_BYTES: Final = 128

_LAST_SEQUENCE: Final = 4
_NUMBERS: Final = frozenset({2, 3, _LAST_SEQUENCE, 9, 10})  # fields that are one varint
_COMPARATOR: Final = 1
_SKIPPABLE: Final = 1 << 13  # this bit marks fields that carry their length


def find_gap(folder: Path) -> str:
    """Return what is missing in the database in ``folder``; empty if nothing is.

    Takes the time to page through the logs, which are empty after a clean close. Nobody may have
    the database open. Files that cannot be read or understood are left to RocksDB.
    """
    try:
        current = (folder / "CURRENT").read_text().strip()
        last = _last_in_tables(folder / current)
        logs = sorted((int(path.stem), path) for path in folder.glob("*.log"))
        for _number, path in logs:  # one that is not needed any more ends before `last`
            span = _log_span(path)
            if span is None:
                continue
            if span[0] > last + 1:
                return f"steps {last + 1} to {span[0] - 1} are missing before {path.name}"
            last = max(last, span[1])
    except (OSError, ValueError):
        return ""
    return ""


def _last_in_tables(manifest: Path) -> int:
    """Return the last sequence number in the tables; 0 before the first one."""
    last = 0
    for head in _record_heads(manifest):
        last = _last_sequence(head, default=last)
    return last


def _log_span(path: Path) -> tuple[int, int] | None:
    """Return the first and last sequence number of a log; ``None`` if it is empty."""
    first = last = None
    for head in _record_heads(path):
        if len(head) < _BATCH.size:
            continue
        start, count = _BATCH.unpack_from(head)
        first = start if first is None else first
        last = start + count - 1
    return None if first is None or last is None else (first, last)


def _last_sequence(head: bytes, default: int) -> int:
    """Return the field of that name of a manifest record; it comes before all lists."""
    at = 0
    try:
        while at < len(head):
            tag, at = _varint(head, at)
            if tag not in _NUMBERS and tag != _COMPARATOR and not tag & _SKIPPABLE:
                return default
            number, at = _varint(head, at)
            if tag == _LAST_SEQUENCE:
                return number
            if tag not in _NUMBERS:
                at += number
    except IndexError:
        pass  # the head ends within a field that is none of ours
    return default


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the top bit means that more follows
            return value, at


def _record_heads(path: Path) -> Iterator[bytes]:
    """Yield the first bytes of each whole record of a log or manifest, up to a torn end."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = b""
        for kind, start, end in _fragments(data):
            if kind in {_WHOLE, _FIRST}:
                head = b""
            head += data[start : min(end, start + _HEAD_BYTES - len(head))]
            if kind in {_WHOLE, _LAST}:
                yield head


def _fragments(data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and end of each fragment. Blocks end in padding, files perhaps in zeros."""
    at = 0
    while at + _FRAGMENT.size <= len(data):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        if left < _FRAGMENT.size:
            at += left
            continue
        _, length, kind = _FRAGMENT.unpack_from(data, at)
        if kind == 0:
            at += left
            continue
        start = at + _FRAGMENT.size
        at = start + length
        if at > len(data):
            return
        yield kind, start, at
