"""Deduplication: of records of a key with the same id, near in event time, the first to arrive.

An id is kept until the watermark is ``within_ms`` past its time. So a record that is not behind the
watermark is judged by all that came before it; a late one passes unless it is known, because
nothing of value should get lost: ``late`` counts it as ``passed``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Final

import msgspec

from streamapp.core.rows import NO_ROWS, Rows
from streamapp.core.times import FOREVER_MS, plus
from streamapp.errors import ConfigError
from streamapp.operators.expiring import ROW, Changes, Timers, rounded_up, step_of
from streamapp.operators.keys import FieldOrFunction, checked_key, getter
from streamapp.operators.operator import Operator, RowError, SetAside, StateView
from streamapp.operators.pick import picked
from streamapp.serde.ordered_keys import decode_key, encode_key, encode_under

#: A row is JSON: format 1, then the times of the records of this key and id that passed.
_FORMAT: Final = 1
_FIRST_ROW, _END_OF_ROWS = encode_key((ROW,)), encode_key((ROW + 1,))
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[int])


class Dedup(Operator):
    """Drops a record if one with its key and id passed at most ``within_ms`` before or after it.

    "Before" and "after" are of event time; the order of arrival says which one is first. A dropped
    record does not prolong the time of the one that passed. ``dropped`` counts.

    Raises:
        ConfigError: ``within_ms`` is negative, or the function of the id must be awaited.
    """

    def __init__(self, of: FieldOrFunction, within_ms: int, state: StateView) -> None:
        super().__init__()
        if within_ms < 0:
            msg = f"Duplicates within {within_ms} ms cannot be found"
            raise ConfigError(msg, hint="Let within be at least 0")
        self._id_of = getter(of)
        self._within_ms = within_ms
        self._step_ms = step_of(within_ms)
        self._state = state
        self._changes = Changes()
        self._timers = Timers(state, self._changes)
        #: By name, the times of the records that passed and are remembered, in order.
        self._times: dict[bytes, tuple[int, ...]] = {}
        #: Whether the state may hold names that memory does not; unknown before the first look.
        self._has_more: bool | None = None
        self.dropped = 0
        self.next_due_ms = self._timers.next_ms

    def process(self, rows: Rows, side: int = 0) -> Rows:
        """See ``Operator.process``."""
        del side
        names: list[bytes] = []
        try:
            for key, value in zip(rows.keys, rows.values, strict=True):
                names.append(_name(key, checked_key(self._id_of(value))))
        except Exception as exc:  # whatever the user's function raises, or no id
            origin = rows.origins[len(names)]
            rows = rows.part(0, bisect_left(rows.origins, origin))
            raise RowError(origin, self._passed(rows, names)) from exc
        return self._passed(rows, names)

    def advance(self, watermark_ms: int) -> Rows:
        """Forget what no record after the watermark can be a duplicate of."""
        if watermark_ms >= self.next_due_ms:
            for due_ms, name in self._timers.due(watermark_ms):
                times = self._known(name)
                if not times:
                    continue
                if self._due_ms(times) == due_ms:
                    self._remember(name, times, self._live(times, watermark_ms))
                else:
                    self._timers.correct(name, due_ms, self._due_ms(times))
            self.next_due_ms = self._timers.next_ms
        return NO_ROWS

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        return self._changes.take()

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``; what has been there for longest goes first."""
        self._timers.trim(rows)
        self.next_due_ms = self._timers.next_ms
        for name in list(islice(self._times, max(len(self._times) - rows, 0))):
            del self._times[name]
            self._has_more = True

    @property
    def set_aside(self) -> Counter[tuple[SetAside, str]]:
        """See ``Operator.set_aside``."""
        return super().set_aside + Counter({("dropped", "repeated"): self.dropped})

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return len(self._times)

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return len(self._changes)

    def _passed(self, rows: Rows, names: list[bytes]) -> Rows:
        """Remember the rows that pass, and return them. There are at least as many names."""
        places: list[int] = []
        within_ms = self._within_ms
        for place, (time_ms, mark_ms) in enumerate(zip(rows.times, rows.marks, strict=True)):
            name = names[place]
            times = self._known(name)
            live = self._live(times, mark_ms)
            if any(abs(time_ms - other) <= within_ms for other in live):
                self.dropped += 1
                continue
            if time_ms <= mark_ms:
                self.late["passed"] += 1
            if plus(time_ms, within_ms) > mark_ms:
                self._remember(name, times, tuple(sorted((*live, time_ms))))
            places.append(place)
        self.next_due_ms = self._timers.next_ms
        return rows if len(places) == len(rows) else picked(rows, places)

    def _known(self, name: bytes) -> tuple[int, ...]:
        times = self._times.get(name)
        return self._stored(name) if times is None else times

    def _stored(self, name: bytes) -> tuple[int, ...]:
        """Return what the state holds of a name that memory does not hold."""
        if self._has_more is None:
            self._has_more = any(True for _ in self._state.scan(_FIRST_ROW, _END_OF_ROWS))
        if not self._has_more or self._changes.has_deleted(_FIRST_ROW + name):
            return ()
        data = self._state.get(_FIRST_ROW + name)
        return () if data is None else tuple(_decoder.decode(data)[1:])

    def _live(self, times: tuple[int, ...], watermark_ms: int) -> tuple[int, ...]:
        return tuple(time for time in times if plus(time, self._within_ms) > watermark_ms)

    def _due_ms(self, times: tuple[int, ...]) -> int:
        if not times:
            return FOREVER_MS
        return rounded_up(plus(times[0], self._within_ms), self._step_ms)

    def _remember(self, name: bytes, old: tuple[int, ...], new: tuple[int, ...]) -> None:
        """Change the times of a name, and its timer."""
        self._timers.move(name, self._due_ms(old), self._due_ms(new))
        if not new:
            self._changes.delete(_FIRST_ROW + name)
            self._times.pop(name, None)
            return
        data = _encoder.encode((_FORMAT, *new))
        if old:
            self._changes.update(_FIRST_ROW + name, data)
        else:
            self._changes.insert(_FIRST_ROW + name, data)
        self._times[name] = new


def dedup_view(raw: bytes, data: bytes) -> tuple[Hashable, object] | None:
    """Return what a table shows: ``(key, id)`` and the times of the records that passed."""
    kind, *rest = decode_key(raw)
    if kind != ROW:
        return None
    return tuple(rest), _decoder.decode(data)[1:]


def _name(key: Hashable, identity: Hashable) -> bytes:
    return encode_under(encode_under(b"", key), identity)
