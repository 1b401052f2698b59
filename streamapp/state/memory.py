"""The ``Store`` of tests and of tables that need no disk: a dict and its keys in order.

It must behave as ``RocksStore`` does in everything but durability; a copy on disk is one file with
its checksum.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from itertools import islice
from threading import Lock
from types import NoneType
from typing import TYPE_CHECKING, Final, cast

import msgspec

from streamapp.errors import StateCorruptError, StateError
from streamapp.state.files import file_error, make_private, refuse_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FILE: Final = "rows"
_CRC_BYTES: Final = 4
#: From this many keys on, one pass over all keys beats moving the tail of the list for each.
_MANY_KEYS: Final = 32


class MemoryStore:
    """Rows in memory; see ``Store`` for the contract. Thread-safe.

    A point read and an overwrite cost a dict access, a new key O(rows) of memory moves (some
    microseconds at 100,000 rows), a scan O(log rows + rows in the range), at the call. Where many
    keys come or go at once, that is done at the next scan, in O(rows).
    """

    __slots__ = ("_added", "_guard", "_is_current", "_is_open", "_keys", "_rows")

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        #: The keys of ``_rows`` in byte order; without ``_added``, and with some that are gone,
        #: where it is not current.
        self._keys: list[bytes] = []
        self._added: list[bytes] = []
        self._is_current = True
        self._guard = Lock()
        self._is_open = True

    @classmethod
    def open(cls, folder: Path) -> MemoryStore:
        """Return a store with the rows that ``checkpoint`` left in ``folder``, if any.

        Raises:
            StateCorruptError: The file there is damaged.
        """
        store = cls()
        path = folder / _FILE
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return store
        except OSError as exc:
            what = f"store {folder} cannot be read"
            raise file_error(what, exc) from exc
        checksum, payload = stored[:_CRC_BYTES], stored[_CRC_BYTES:]
        if int.from_bytes(checksum, "big") != zlib.crc32(payload):
            message = f"store {folder}: the checksum of {_FILE} is wrong"
            raise StateCorruptError(message, hint="Restore from an older checkpoint")
        store._rows = msgspec.msgpack.decode(payload, type=dict[bytes, bytes])
        store._keys = list(store._rows)
        return store

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or ``None``."""
        with self._guard:  # or a reader beside `apply` could see half of its changes
            self._check_open()
            return self._rows.get(key)

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all changes as one atomic step; see ``Store.apply``."""
        with self._guard:
            self._check_open()
            rows = self._rows
            before = len(rows)
            # What is gone is there as None until the next lines.
            rows.update(cast("Mapping[bytes, bytes]", changes))
            # What a dict did not have is at its end now.
            new = [*islice(reversed(rows), len(rows) - before)]
            gone = list[bytes]()
            if NoneType in {*map(type, changes.values())}:
                gone = [key for key, value in changes.items() if value is None]
                for key in gone:
                    del rows[key]
            self._note_keys(new, gone)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``[start, end)`` as of now; see ``Store.scan``. Copies the range."""
        with self._guard:
            self._check_open()
            self._order_keys()
            rows = [(key, self._rows[key]) for key in self._keys[self._range(start, end)]]
        return self._open_rows(reversed(rows) if reverse else iter(rows))

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete ``[start, end)`` as one atomic step."""
        with self._guard:
            self._check_open()
            self._order_keys()
            doomed = self._range(start, end)
            for key in self._keys[doomed]:
                del self._rows[key]
            del self._keys[doomed]

    def checkpoint(self, folder: Path) -> None:
        """Write all rows to one file in ``folder``; see ``Store.checkpoint``."""
        with self._guard:
            self._check_open()
            self._order_keys()
            payload = msgspec.msgpack.encode({key: self._rows[key] for key in self._keys})
        refuse_target(folder)
        make_private(folder)
        checksum = zlib.crc32(payload).to_bytes(_CRC_BYTES, "big")
        try:
            (folder / _FILE).write_bytes(checksum + payload)
        except OSError as exc:
            what = f"checkpoint {folder} cannot be written"
            raise file_error(what, exc) from exc

    def close(self) -> None:
        """End all scans and forget the rows; safe to repeat."""
        with self._guard:
            self._is_open = False
            self._rows, self._keys, self._added = {}, [], []

    def _open_rows(self, rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._check_open()
            yield row

    def _check_open(self) -> None:
        if not self._is_open:
            message = "the store in memory is closed"
            raise StateError(message, hint="Open a new one")

    def _range(self, start: bytes, end: bytes) -> slice:
        return slice(bisect_left(self._keys, start), bisect_left(self._keys, end))

    def _note_keys(self, new: list[bytes], gone: list[bytes]) -> None:
        if not self._is_current or len(new) + len(gone) >= _MANY_KEYS:
            self._is_current = False
            self._added += new
            if len(self._added) > len(self._rows) + _MANY_KEYS:
                # Keys that come and go would pile up: those that stay are in the rows.
                self._keys, self._added = [], [*self._rows]
            return
        for key in new:
            insort(self._keys, key)
        for key in gone:
            del self._keys[bisect_left(self._keys, key)]

    def _order_keys(self) -> None:
        """Bring the keys up to date, if many have changed since the last scan."""
        if self._is_current:
            return
        keys = self._keys + self._added
        keys.sort()  # two runs, of which one is sorted: a merge
        self._keys = [key for key in dict.fromkeys(keys) if key in self._rows]
        self._added, self._is_current = [], True
