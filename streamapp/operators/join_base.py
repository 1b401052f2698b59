"""What all joins share: sides, pairs, and results that come out of the state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import NEVER_MS
from streamapp.operators.join_state import JoinState
from streamapp.operators.operator import Failed, Operator

LEFT: Final = 0
RIGHT: Final = 1

#: What becomes of a record without a partner: left out, kept if it is a left one, kept.
JoinKind = Literal["inner", "left", "outer"]


class Pair(msgspec.Struct, frozen=True):
    """What a join brings; ``None`` stands for the side that has no partner."""

    left: Any
    right: Any


def pair_type(left: Any, right: Any) -> type[Pair]:  # noqa: ANN401 - any annotation
    """Return the pairs of two types (``None``: not known), which come back as such from bytes."""
    sides = [
        (name, Any if of is None else of | None) for name, of in (("left", left), ("right", right))
    ]
    return cast("type[Pair]", msgspec.defstruct("Pair", sides, bases=(Pair,), frozen=True))


#: From the values of both sides to the result; ``Pair`` is one.
Combine = Callable[..., object]


class StreamJoin(Operator):
    """What joins of two streams have in common: state, and results that may fail."""

    def __init__(self, held: JoinState, combine: Combine) -> None:
        super().__init__()
        self._held = held
        self._combine = combine
        self.next_due_ms = held.next_due_ms

    def combined(self, pairs: Sequence[tuple[int, Hashable, Pair]]) -> Rows:
        """Return the results of ``advance``: rows of ``(time_ms, key, pair)``, in this order."""
        keys: list[Hashable] = []
        times: list[int] = []
        values: list[object] = []
        for time_ms, key, pair in pairs:
            try:
                values.append(self._combine(pair.left, pair.right))
            except Exception as exc:  # noqa: BLE001 - whatever the user's function raises
                self._failed.append(Failed(key, time_ms, pair, exc))
            else:
                keys.append(key)
                times.append(time_ms)
        count = len(values)
        return Rows(keys, times, values, [NEVER_MS] * count, [0] * count) if count else NO_ROWS

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        return self._held.drain()

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``."""
        self._held.trim(rows)
        self.next_due_ms = self._held.next_due_ms

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return self._held.size

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return self._held.changed
