"""The table of an operator: what its state looks like to the rest of the house.

The operator of a partition is the only writer, through ``Shard.stage``; to everybody else it is a
read-only table whose rows are what ``view`` makes of the operator's bytes, as of the last commit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from streamapp.errors import UsageError
from streamapp.state.rows import Packed, RowCodec
from streamapp.state.table import Table, TableSpec

if TYPE_CHECKING:
    from streamapp.state.shard import Shard

#: From a row's bytes (key, value) to what views show: a key and a value; ``None`` to show nothing.
View = Callable[[bytes, bytes], tuple[Hashable, object] | None]

_LAST = b"\xff" * 9


class OperatorTable(Table):
    """See the module. Declared by a pipeline, restored and committed like any other table."""

    def __init__(self, spec: TableSpec, view: View, *, holds_windows: bool = False) -> None:
        super().__init__(spec, RowCodec(_not_encoded, bytes, {}))
        self.view = view
        self.holds_windows = holds_windows

    def rows(
        self, partition: int, start: bytes = b"", end: bytes = _LAST, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Any, Any]]:
        """See ``Table.rows``."""
        if (shard := self.shards.get(partition)) is None:
            return
        for raw, held in shard.scan(start, end, reverse=reverse):
            seen = self.logged(partition, raw, held.data) if isinstance(held, Packed) else None
            if seen is not None:
                yield raw, *seen

    def logged(self, partition: int, raw: bytes, data: bytes) -> tuple[Any, Any] | None:
        """See ``Table.logged``."""
        seen = self.view(raw, data)
        return None if seen is None else (seen[0], self._shown(seen[1], partition))

    def _shown(self, value: Any, partition: int) -> Any:
        """Say of a window whether it has closed, where only the watermark can tell."""
        if self.holds_windows and "end" in value and "is_final" not in value:
            return {**value, "is_final": self.now_ms(partition) >= value["end"] - 1}
        return value

    def find(self, key: Hashable) -> Iterator[tuple[int, Any]]:
        """See ``Table.find``."""
        for partition in self.shards:
            for _, other, value in self.rows(partition):
                if other == key:
                    yield partition, value

    def __getitem__(self, key: Hashable) -> Any:
        for _, value in self.find(key):
            return value
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(True for _ in self.find(key))

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the row's value, or ``default``."""
        return next((value for _, value in self.find(key)), default)

    def __setitem__(self, key: Hashable, value: object) -> None:
        raise self._read_only()

    def __delitem__(self, key: Hashable) -> None:
        raise self._read_only()

    def items(self) -> Iterator[tuple[Any, Any]]:  # type: ignore[override]
        """Iterate over ``(key, value)``, partition by partition."""
        for partition in sorted(self.shards):
            for _, key, value in self.rows(partition):
                yield key, value

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self.items())

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        """Iterate over the values, in the order of ``items``."""
        return (value for _, value in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def _read_only(self) -> UsageError:
        return UsageError(
            f"Table {self.name} is the state of a pipeline and read-only",
            hint="Let the pipeline write its results .to(table=...), or use a table of your own",
        )


class ShardView:
    """An operator's rows of one partition; see ``operators.operator.StateView``."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def get(self, key: bytes) -> bytes | None:
        """Return the bytes of a row, or ``None``."""
        return self._shard.get(key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over ``(key, row)`` with keys in ``[start, end)``, in key order."""
        for raw, held in self._shard.scan(start, end):
            if isinstance(held, Packed):
                yield raw, held.data


def _not_encoded(value: object) -> bytes:
    msg = f"An operator writes bytes, not {value!r:.80}"
    raise TypeError(msg)
