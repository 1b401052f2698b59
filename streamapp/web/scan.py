"""Reading many rows of a table on the event loop without stalling it.

A scan is read in chunks; between two of them everybody else has a turn. A chunk begins after the
last key seen, so nothing is held meanwhile: rows may change and partitions may leave in between.
Rows that are not shown (expired ones, an operator's timers) fill chunks like all others.
Order: partitions ascending, keys in byte order inside of each.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from streamapp.errors import StateError
from streamapp.state.operator_table import OperatorTable
from streamapp.state.rows import Packed
from streamapp.state.store import prefix_end
from streamapp.web.answers import to_json
from streamapp.web.tables_windows import shown_key

if TYPE_CHECKING:
    from streamapp.engine.keeper import Keeper
    from streamapp.state.table import Table

#: Rows of one chunk, hidden ones included: about a millisecond.
_CHUNK = 100
#: Bytes behind which a chunk ends before that: a hundred rows of a megabyte would hold everybody
#: else up for seconds, and a count would have gigabytes of them in hand.
_CHUNK_BYTES = 1 << 18
_Row = TypeVar("_Row")

#: Above every raw key.
_LAST = b"\xff" * 9
#: Seconds that one page may take, so that a scan of expired or huge rows ends.
_PAGE_S = 0.25
#: Bytes of the rows of one page, bounding what a request costs in memory.
_PAGE_BYTES = 1 << 20
#: Rows of one chunk when only keys are counted: about a millisecond too.
_COUNT_CHUNK = 2_000
#: Seconds of CPU that one count may take in all, and how long it is good for. By the clock, a busy
#: worker would count all of ten rows now, and some of them the next time.
_COUNT_S = 0.01
_COUNT_KEPT_S = 2.0


class Cursor(NamedTuple):
    """The last row that a page has shown or looked at; the next one begins behind it."""

    partition: int
    raw_key: bytes

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what ``str(cursor)`` has written.

        Raises:
            ValueError: It is something else.
        """
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return cls(*msgspec.msgpack.decode(data, type=tuple[int, bytes]))
        except (binascii.Error, msgspec.MsgspecError) as exc:
            raise ValueError(text) from exc

    def __str__(self) -> str:
        """Return the cursor as a client gets it: opaque, safe in a URL."""
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(tuple(self))).rstrip(b"=").decode()


@dataclass(slots=True)
class Page:
    """Rows as JSON; ``next`` is where to go on, ``is_partial`` says that a bound cut the page.

    A partial page may be without rows, where many in a row are hidden.
    """

    rows: list[msgspec.Raw]
    next: Cursor | None = None
    is_partial: bool = False


async def read_page(table: Table, after: Cursor | None, limit: int) -> Page:
    """Read up to ``limit`` rows behind a cursor.

    Raises:
        StateError: The store failed or was closed.
    """
    page, size, last = Page([]), 0, after
    deadline = time.monotonic() + _PAGE_S
    async for chunk in _chunks(table, after):
        page.is_partial = last is not after and time.monotonic() > deadline
        if page.is_partial:
            break
        for cursor, key, value in chunk.rows:
            page.is_partial = size > _PAGE_BYTES
            if page.is_partial or len(page.rows) == limit:
                page.next = last
                return page
            named = shown_key(table, key)
            row = to_json({**named, "value": value, "partition": cursor.partition})
            page.rows.append(msgspec.Raw(row))
            size += len(row)
            last = cursor
        last = chunk.last or last
    page.next = last if page.is_partial else None
    return page


async def find(
    table: Table, key: object, is_wanted: Callable[[], bool] = lambda: True
) -> list[tuple[int, Any]]:
    """Return ``(partition, value)`` of the owned rows with this key.

    Where an operator orders its rows by something else, all of them are looked at, in turns with
    everybody else, while it is wanted: of a million rows that takes a minute.

    Raises:
        InputError: This can be no key of the table.
        StateError: The store failed or was closed.
    """
    if not isinstance(table, OperatorTable):
        return list(table.find(key))
    found = []
    async for chunk in _chunks(table, None):
        found += [(at.partition, value) for at, other, value in chunk.rows if other == key]
        if not is_wanted():
            break
    return found


class _Chunk(NamedTuple):
    """What is to be shown of the rows up to ``last``; ``None``: to the end of the partition."""

    rows: list[tuple[Cursor, Any, Any]]
    last: Cursor | None


async def _chunks(table: Table, after: Cursor | None) -> AsyncIterator[_Chunk]:
    first, start = (after.partition, after.raw_key + b"\x00") if after else (0, b"")
    for partition in sorted(number for number in table.shards if number >= first):
        begin = start if partition == first else b""
        while partition in table.shards:
            _, raw_last = _some(table.shards[partition].scan(begin, _LAST), _CHUNK)
            last = None if raw_last is None else Cursor(partition, raw_last)
            end = _LAST if raw_last is None else raw_last + b"\x00"
            rows = table.rows(partition, begin, end)
            yield _Chunk([(Cursor(partition, raw), key, value) for raw, key, value in rows], last)
            if last is None:
                break
            begin = end
            await asyncio.sleep(0)


def _some(
    rows: Iterator[tuple[bytes, _Row]], most: int
) -> tuple[list[tuple[bytes, _Row]], bytes | None]:
    """Take the first rows, up to a number and a bound of bytes, at least one.

    Returns:
        The rows, and the key of the last one; ``None`` where there are no more.
    """
    taken, size = [], 0
    for row in rows:
        taken.append(row)
        size += _size(row[1])
        if len(taken) == most or size > _CHUNK_BYTES:
            return taken, row[0]
    return taken, None


def _size(value: object) -> int:
    data = value.data if isinstance(value, Packed) else value
    return len(data) if isinstance(data, bytes | str) else 0


class Count(NamedTuple):
    """Rows of the owned partitions in the local store, which is some seconds behind.

    Of an operator's rows those that are shown, as many as there was time to look at. Not
    ``is_all``: there are more than were counted.
    """

    rows: int
    is_all: bool


class RowCounts:
    """Counts of all tables, made anew on demand: every few seconds, and when partitions moved."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[int], Count]] = {}
        self._lock = asyncio.Lock()

    async def of(self, table: Table, keeper: Keeper) -> Count | None:
        """Return the count of a table; ``None`` while its store cannot be read."""
        async with self._lock:
            at, counted, count = self._known.get(table.name, (0.0, None, Count(0, is_all=True)))
            owned = frozenset(table.shards)
            if counted == owned and time.monotonic() - at < _COUNT_KEPT_S:
                return count
            try:
                fresh = await _count(table, keeper)
            except StateError:
                return None
            self._known[table.name] = time.monotonic(), owned, fresh
            return fresh


async def _count(table: Table, keeper: Keeper) -> Count:
    rows, spent_s = 0, 0.0
    most = _CHUNK if isinstance(table, OperatorTable) else _COUNT_CHUNK
    for prefix in [shard.prefix for shard in table.shards.values()]:
        start, end = prefix, prefix_end(prefix)
        while start < end:
            if spent_s > _COUNT_S:
                return Count(rows, is_all=False)
            begun = time.thread_time()
            found, last = _some(keeper.store.scan(start, end), most)
            rows += _shown(table, len(prefix), found)
            spent_s += time.thread_time() - begun
            start = end if last is None else last + b"\x00"
            await asyncio.sleep(0)
    return Count(rows, is_all=True)


def _shown(table: Table, skip: int, found: list[tuple[bytes, bytes]]) -> int:
    if not isinstance(table, OperatorTable):
        return len(found)
    return sum(table.view(key[skip:], data) is not None for key, data in found)
