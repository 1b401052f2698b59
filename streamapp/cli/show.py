"""Data for people (a table, safe text) and for programs (JSON); the only module that knows rich."""

import base64
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from streamapp.serde.strict_json import check_depth

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def print_json(value: object) -> None:
    """Print one JSON document, on one line."""
    print(msgspec.json.encode(value).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under their columns, numbers to the right; ``empty`` where there are none."""
    from rich.console import Console  # noqa: PLC0415 - --help must not wait for it
    from rich.table import Table  # noqa: PLC0415 - as above

    cells = list(rows)
    if not cells:
        print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, value in zip(columns, cells[0], strict=True):
        table.add_column(column, justify="right" if isinstance(value, int) else "left")
    for row in cells:
        table.add_row(*(_cell(value) for value in row))
    # Where this is no terminal, 80 columns are nobody's.
    width = None if sys.stdout.isatty() else 100_000
    Console(soft_wrap=True, highlight=False, markup=False, width=width).print(table)


def _cell(value: object) -> str:
    """Write numbers in groups of three digits, what is unknown as a dash."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(ms: int | None) -> str:
    """Write milliseconds in the largest unit that divides them: ``7d``, ``90s``, ``250ms``."""
    if ms is None:
        return "forever"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def timestamp(ms: int) -> str:
    """Write epoch milliseconds as RFC 3339 in UTC; as a number outside of the years 1 to 9999."""
    try:
        text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{ms} ms"
    return text.replace("+00:00", "Z")


def readable(data: bytes | None) -> str:
    """Write bytes as text that is safe for a terminal: what does not print is escaped."""
    if data is None:
        return "(null)"
    text = data.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def structured(data: bytes | None) -> Any:  # noqa: ANN401 - any JSON value
    """Return bytes as their JSON value, else as text, else as ``{"base64": ...}``.

    JSON that nests deeper than a worker takes is text too.
    """
    if data is None:
        return None
    try:
        check_depth(data)
        return msgspec.json.decode(data)
    except ValueError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
