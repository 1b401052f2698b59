"""The table that a pipeline writes its results to; to everybody else it is read-only."""

from __future__ import annotations

from collections.abc import Hashable

from streamapp.errors import UsageError
from streamapp.state.rows import Packed
from streamapp.state.table import Table


class ResultTable(Table):
    """Rows by key; those of windows by (key, start), kept for ``ttl_ms`` after the window's end."""

    def held(self, key: Hashable, value: object, ends_ms: int) -> Packed:
        """Return the form in which a shard holds a result of a window that ends then.

        Raises:
            EncodeError: The value cannot be stored.
        """
        del key
        data = self.codec.encode(value)
        if self.spec.ttl_ms is not None:
            data = ends_ms.to_bytes(8, "big", signed=True) + data
        return Packed(data)

    def __setitem__(self, key: Hashable, value: object) -> None:
        raise self._read_only()

    def __delitem__(self, key: Hashable) -> None:
        raise self._read_only()

    def _read_only(self) -> UsageError:
        return UsageError(
            f"Table {self.name} holds the results of a pipeline and is read-only",
            hint="Write to a table of your own, or change the pipeline",
        )
