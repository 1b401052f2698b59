"""Reading many rows of a table on the event loop without stalling it.

A scan is read in chunks; between two of them everybody else has a turn. A chunk begins after the
last key seen, so nothing is held meanwhile: rows may change and partitions may leave in between.
Order: partitions ascending, keys in byte order inside of each.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from streamapp.errors import StateError
from streamapp.state.operator_table import OperatorTable
from streamapp.state.store import prefix_end
from streamapp.web.answers import to_json
from streamapp.web.tables_windows import shown_key

if TYPE_CHECKING:
    from streamapp.engine.keeper import Keeper
    from streamapp.state.table import Table

#: Rows of one chunk: about a millisecond.
_CHUNK = 100
#: Seconds that one page may take, so that a scan of expired or huge rows ends.
_PAGE_S = 0.25
#: Bytes of the rows of one page, bounding what a request costs in memory.
_PAGE_BYTES = 1 << 20
#: Rows of one chunk when they are only counted: about a millisecond too.
_COUNT_CHUNK = 2_000
#: Seconds that one count may take in all, and how long it is good for.
_COUNT_S = 0.01
_COUNT_KEPT_S = 2.0


class Cursor(NamedTuple):
    """The last row that a page has shown; the next one begins behind it."""

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
    """Rows as JSON; ``next`` is where to go on, ``is_partial`` says that a bound cut the page."""

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
    async for cursor, key, value in _walk(table, after):
        page.is_partial = size > _PAGE_BYTES or (bool(page.rows) and time.monotonic() > deadline)
        if page.is_partial or len(page.rows) == limit:
            page.next = last
            return page
        named = shown_key(table, key)
        row = to_json({**named, "value": value, "partition": cursor.partition})
        page.rows.append(msgspec.Raw(row))
        size += len(row)
        last = cursor
    return page


async def find(table: Table, key: object) -> list[tuple[int, Any]]:
    """Return ``(partition, value)`` of the owned rows with this key.

    Where an operator orders its rows by something else, all of them are looked at, in turns with
    everybody else.

    Raises:
        InputError: This can be no key of the table.
        StateError: The store failed or was closed.
    """
    if not isinstance(table, OperatorTable):
        return list(table.find(key))
    return [(at.partition, value) async for at, other, value in _walk(table, None) if other == key]


async def _walk(table: Table, after: Cursor | None) -> AsyncIterator[tuple[Cursor, Any, Any]]:
    first, start = (after.partition, after.raw_key + b"\x00") if after else (0, b"")
    for partition in sorted(number for number in table.shards if number >= first):
        begin = start if partition == first else b""
        while partition in table.shards:
            chunk = list(islice(table.rows(partition, begin), _CHUNK))
            for raw, key, value in chunk:
                yield Cursor(partition, raw), key, value
            if len(chunk) < _CHUNK:
                break
            begin = chunk[-1][0] + b"\x00"
            await asyncio.sleep(0)


class Count(NamedTuple):
    """Rows of the owned partitions in the local store, which is some seconds behind.

    Not ``is_all``: there are more than were counted.
    """

    rows: int
    is_all: bool


class RowCounts:
    """Counts of all tables, made anew at most every few seconds, on demand."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Count]] = {}
        self._lock = asyncio.Lock()

    async def of(self, table: Table, keeper: Keeper) -> Count | None:
        """Return the count of a table; ``None`` while its store cannot be read."""
        async with self._lock:
            at, count = self._known.get(table.name, (0.0, None))
            if count is not None and time.monotonic() - at < _COUNT_KEPT_S:
                return count
            try:
                fresh = await _count(table, keeper)
            except StateError:
                return None
            self._known[table.name] = time.monotonic(), fresh
            return fresh


async def _count(table: Table, keeper: Keeper) -> Count:
    rows, spent_s = 0, 0.0
    for prefix in [shard.prefix for shard in table.shards.values()]:
        start, end = prefix, prefix_end(prefix)
        while start < end:
            if spent_s > _COUNT_S:
                return Count(rows, is_all=False)
            begun = time.perf_counter()
            keys = [key for key, _ in islice(keeper.store.scan(start, end), _COUNT_CHUNK)]
            spent_s += time.perf_counter() - begun
            rows += len(keys)
            start = keys[-1] + b"\x00" if len(keys) == _COUNT_CHUNK else end
            await asyncio.sleep(0)
    return Count(rows, is_all=True)
