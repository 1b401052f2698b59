"""What is measured: a program over events in memory, of one engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamapp.bench.scenarios import Rows

#: Engines by name, ours first: the package that must be installed, and what is compared.
ENGINES = {
    "ours": ("streamapp", "this package"),
    "batches": ("streamapp", "this package, a batch agent in a worker, broker in memory"),
    "plain": ("msgspec", "a loop and a dict, typed decoding"),
    "polars": ("polars", "one frame of all events, no stream"),
    "faust": ("faust", "stock faust-streaming, broker and tables in memory"),
    "quix": ("quixstreams", "Quix Streams, state in RocksDB, no broker"),
    "bytewax": ("bytewax", "Bytewax, one worker, no recovery"),
    "pathway": ("pathway", "Pathway, static, from a file"),
}


@dataclass(frozen=True, slots=True)
class Program:
    """``work`` takes all events in; ``results`` reads what came out, and is not measured."""

    work: Callable[[], None]
    results: Callable[[], Rows]
