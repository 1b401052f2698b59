"""Sequences put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def one_list(parts: Iterable[Sequence[T]]) -> list[T]:
    """Return what is in all parts, in their order; parts that are lists are copied at once."""
    found: list[T] = []
    for part in parts:
        found += part
    return found
