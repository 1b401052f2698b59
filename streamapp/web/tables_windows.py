"""What the table views show of tables with windows: the key and the window of each row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from streamapp.serde.ordered_keys import encode_key
from streamapp.state.windowed_grid import key_of, row_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from streamapp.state.table import Table
    from streamapp.state.windowed_grid import WindowGrid


def about_windows(table: Table) -> dict[str, Any]:
    """Return the members that describe the life of a table's rows, and its windows."""
    grid = table.spec.windows
    if grid is None:
        return {"ttl_ms": table.spec.ttl_ms, "windows": None}
    sizes = {"size_ms": grid.size_ms, "step_ms": grid.step_ms, "expires_ms": grid.expires_ms}
    return {"ttl_ms": None, "windows": sizes}


def shown_key(table: Table, key: Any) -> dict[str, Any]:  # noqa: ANN401 - keys are the user's
    """Return the members that name a row: its key, and its window where the table has windows."""
    grid = table.spec.windows
    if grid is None:
        return {"key": key}
    return {"key": key_of(key, table.spec.key_type), "window": _shown(grid, key[-1])}


def windows_of(table: Table, key: Hashable, limit: int) -> Iterator[tuple[int, list[Any]]]:
    """Iterate over ``(partition, windows)`` of a key, newest window first, up to a limit in each.

    Raises:
        InputError: This can be no key of the table.
    """
    grid = table.spec.windows
    if grid is None:
        return
    first, last = map(encode_key, rows_of(key))
    parts = len(row_of(key, 0))
    for partition in sorted(table.shards):
        rows = table.rows(partition, first, last, reverse=True)
        mine = (
            _shown(grid, row[-1]) | {"value": value} for _, row, value in rows if len(row) == parts
        )
        found = list(islice(mine, limit))
        if found:
            yield partition, found


def _shown(grid: WindowGrid, start_ms: int) -> dict[str, Any]:
    return grid.window(start_ms)._asdict()
