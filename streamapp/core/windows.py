"""Window specifications, and the one formula that places an event time into windows.

All intervals are half-open ``[start, end)`` in integer ms since 1970. Rules: Flink's (semantics in
docs/event-time.md). Pure; numbers and int64 arrays go through the same formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: What becomes of a record that is later than the allowed lateness: always counted.
OnLate = Literal["drop", "side", "correct"]


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long a window takes late records after it has closed, and what becomes of later ones."""

    allowed_ms: int = 0
    on_late: OnLate = "drop"


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows ``[start, start + size_ms)``, one after the other; ``start = offset_ms`` mod size."""

    size_ms: int
    offset_ms: int = 0
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows of ``size_ms`` that start every ``slide_ms``; the size need be no multiple of it."""

    size_ms: int
    slide_ms: int
    offset_ms: int = 0
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Sliding:
    """The window of a record at ``t`` is ``[t - size_ms, t]``, both ends included."""

    size_ms: int
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Session:
    """Records of one key that are at most ``gap_ms`` apart; ``end`` is the last time + gap."""

    gap_ms: int
    late: Lateness = Lateness()


@dataclass(frozen=True, slots=True)
class Count:
    """Every ``count`` records of a key, in the order of arrival."""

    count: int


@dataclass(frozen=True, slots=True)
class Global:
    """One window for all time; emits every ``count`` records of a key and/or every ``every_ms``."""

    count: int | None = None
    every_ms: int | None = None


WindowSpec = Tumbling | Hopping | Sliding | Session | Count | Global


@dataclass(frozen=True, slots=True)
class Emission:
    """When results leave: ``close`` (final), ``update`` (per commit), ``every`` (event time)."""

    kind: Literal["close", "update", "every"] = "close"
    every_ms: int = 0
