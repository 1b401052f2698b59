"""What tables need of a local store: ordered bytes, one atomic write, and trust that is checked.

A store knows nothing of tables, windows or brokers beyond the key layout below; it is a copy of
what the changelog holds and may be wiped at any time. Implementations: ``rocksdb`` and ``memory``,
with one shared contract suite.

Key layout (byte order is scan order)::

    0x01 <table name, UTF-8> 0x00 <partition, u32 big-endian> <key bytes>     rows
    0x00 <name of the note, UTF-8>                                            notes of the engine
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

_ROW = b"\x01"
_NOTE = b"\x00"


def shard_prefix(table: str, partition: int) -> bytes:
    """Return the common prefix of all rows of one partition of a table."""
    return _ROW + table.encode() + b"\x00" + partition.to_bytes(4, "big")


def note_key(name: str) -> bytes:
    """Return the key of a note that the engine keeps beside the rows."""
    return _NOTE + name.encode()


def prefix_end(prefix: bytes) -> bytes:
    """Return the least key that is greater than every key with this prefix."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1])


class Store(Protocol):
    """An ordered map of bytes. Reads and scans may run beside one writer thread."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or ``None``.

        Raises:
            StateCorruptError: The value's block fails its checksum; the store must be wiped.
        """

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all changes as one atomic step; ``None`` deletes. Keys are written sorted.

        After a crash either all or none of them are there. Not synced to disk: what a power cut
        takes comes back from the changelog.

        Raises:
            StateFullError: No room. The handle is dead: close it and open the store again.
        """

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over keys in ``[start, end)`` in byte order, as of the moment of the call."""

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete all keys in ``[start, end)``, as one atomic step."""

    def checkpoint(self, folder: Path) -> None:
        """Make a consistent copy in ``folder`` (which must not exist), by hard links if it can."""

    def close(self) -> None:
        """Close the store and release its lock; safe to repeat, also on a dead handle."""
