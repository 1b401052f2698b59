"""The table that a pipeline writes its results to; to everybody else it is read-only."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from streamapp.errors import UsageError
from streamapp.serde.coders import MAX_BYTES, Decoder
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
            if max(map(len, lines), default=0) <= MAX_BYTES and self._can_read(lines):
                return lines
        return [*map(self.codec.encode, values)]

    def _can_read(self, lines: Sequence[bytes]) -> bool:
        """Tell whether all rows come back; those of windows, which have a ``ttl_ms``, always do."""
        decode = self.codec.decode
        if self.spec.ttl_ms is None and isinstance(decode, Decoder):
            try:
                decode.many(lines)
            except Exception:  # noqa: BLE001 - encoded one by one, it says which one and why
                return False
        return True

    def __setitem__(self, key: Hashable, value: object) -> None:
        raise self._read_only()

    def __delitem__(self, key: Hashable) -> None:
        raise self._read_only()

    def _put_many(self, rows: dict[Hashable, object]) -> None:
        del rows
        raise self._read_only()

    def _read_only(self) -> UsageError:
        return UsageError(
            f"Table {self.name} holds the results of a pipeline and is read-only",
            hint="Write to a table of your own, or change the pipeline",
        )
