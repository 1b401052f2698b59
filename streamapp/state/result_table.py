"""The table that a pipeline writes its results to; to everybody else it is read-only."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from streamapp.errors import UsageError
from streamapp.serde.codecs import decode_batch
from streamapp.serde.coders import MAX_BYTES
from streamapp.serde.strict_json import json_lines
from streamapp.state.table import Table


class ResultTable(Table):
    """Rows by key; those of windows by (key, start), kept for ``ttl_ms`` after the window's end."""

    def encoded(self, values: Sequence[object]) -> list[bytes]:
        """Return the bytes of results, as ``codec`` writes them.

        Raises:
            Exception: One of them cannot be stored.
        """
        declared = self.spec.value_type
        if isinstance(declared, type) and issubclass(declared, msgspec.Struct):
            lines = json_lines(values)
            # Rows of windows are ours; a function may have put anything into a record of its own.
            is_known = self.holds_windows or not decode_batch(self.codec.decode, lines).has_bad
            if is_known and max(map(len, lines), default=0) <= MAX_BYTES:
                return lines
        return [*map(self.codec.encode, values)]

    def __setitem__(self, key: Hashable, value: object) -> None:
        raise self._read_only()

    def __delitem__(self, key: Hashable) -> None:
        raise self._read_only()

    def _put_many(self, rows: dict[Hashable, object], *, is_readable: bool = False) -> None:
        del rows, is_readable
        raise self._read_only()

    def _read_only(self) -> UsageError:
        return UsageError(
            f"Table {self.name} holds the results of a pipeline and is read-only",
            hint="Write to a table of your own, or change the pipeline",
        )
