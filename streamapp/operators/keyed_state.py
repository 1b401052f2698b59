"""State by key: rows, timers, memory.

A key's state is one row (a subclass may add more), found by the key; a timer row beside it says at
which watermark the key has work. A timer that lies too early is moved when it fires: growing costs
nothing. Rows are JSON, ``[version, timer, *body]``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from streamapp.core.times import FOREVER_MS, NEVER_MS
from streamapp.operators.keyed_timers import Timers, timer_row
from streamapp.operators.operator import Operator, StateView
from streamapp.serde.ordered_keys import TEXT, decode_key, encode_all_under, encode_key

#: First byte of the rows that hold what is known of a key.
DATA: Final = b"\x01"
_DATA_END: Final = b"\x02"
VERSION: Final = 1
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_MARK, _MARK_ESCAPED, _KEY_END = b"\x00", b"\x00\xff", b"\x00\x01"


def raw_key(key: Hashable) -> bytes:
    """Return the ordered bytes of a key; no key's bytes begin with those of another."""
    return encode_key(key).replace(_MARK, _MARK_ESCAPED) + _KEY_END


def data_rows(keys: Collection[Hashable]) -> list[bytes]:
    """Return for each key which row of the state is its."""
    if {*map(type, keys)} == {str}:
        return encode_all_under(DATA, keys)
    return [DATA + raw_key(key) for key in keys]


def key_of(raw: bytes) -> Hashable:
    """Return the key with which ``raw`` begins."""
    whole = raw[: raw.index(_KEY_END)]
    if whole[:1] == TEXT and _MARK not in whole:
        return whole[1:].decode()
    found: Hashable = decode_key(whole.replace(_MARK_ESCAPED, _MARK))
    return found


def read_body(data: bytes) -> list[Any]:
    """Return ``[timer, *body]`` of a row.

    Raises:
        ValueError: The row was written by a later version.
    """
    version, *body = cast("list[Any]", msgspec.json.decode(data))
    if version != VERSION:
        msg = f"Row of windows has format {version}; this version reads {VERSION}"
        raise ValueError(msg)
    return body


class Held:
    """What is known of a key. ``due_ms`` is its timer, ``stored_due_ms`` that of its row."""

    __slots__ = ("due_ms", "is_dirty", "is_stored", "key", "raw", "stored_due_ms")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.raw = raw_key(key)
        self.due_ms = self.stored_due_ms = FOREVER_MS
        self.is_stored = self.is_dirty = False


H = TypeVar("H", bound=Held)


class _Kept(dict[Hashable, H]):
    """Keys in memory; those that are missing come from the state."""

    def __init__(self, owner: KeyedState[H]) -> None:
        super().__init__()
        self._owner = owner

    def __missing__(self, key: Hashable) -> H:
        held = self[key] = self._owner.load(key)
        return held


class KeyedState(Operator, Generic[H]):
    """See the module. Subclasses say what a key holds and when it has work."""

    def __init__(self, state: StateView) -> None:
        super().__init__()
        self._state = state
        self._kept: _Kept[H] = _Kept(self)
        self._dirty: list[H] = []
        self._timers = Timers(state)
        #: Whether memory has all keys of the state: those that it does not have need no look.
        self._is_whole = False

    def _held_of(self, raw: bytes) -> H | None:
        """Return the key of a timer; ``None`` if the timer is of no use."""
        return self._kept[key_of(raw)]

    def _new(self, key: Hashable) -> H:
        raise NotImplementedError

    def _due_of(self, held: H) -> int:
        """Return the least watermark at which the key has work."""
        raise NotImplementedError

    def _pack(self, held: H) -> list[Any]:
        """Return what is to be stored of a key, as JSON; nothing when it is empty."""
        raise NotImplementedError

    def _unpack(self, held: H, body: Sequence[Any]) -> None:
        """Make ``held`` what ``_pack`` returned."""
        raise NotImplementedError

    def _extra_rows(self, held: H) -> Mapping[bytes, bytes | None]:
        """Return what changed in the key's further rows since the last call."""
        del held
        return {}

    def _wake(self, held: H, due_ms: int) -> None:
        """Have work on a key no later than this."""
        if due_ms < held.due_ms:
            held.due_ms = due_ms
            self._touch(held)
            self._timers.push(due_ms, held.raw)
            self.next_due_ms = min(self.next_due_ms, due_ms)

    def _settle(self) -> None:
        """Move timers of keys that have grown, until the first one is due when it says."""
        while (first := self._timers.first()) is not None:
            held = self._held_of(first[1])
            if held is not None and held.due_ms == first[0]:
                due_ms = self._due_of(held)
                if due_ms == first[0]:
                    break
                held.due_ms = FOREVER_MS
                self._wake(held, due_ms)
                self._touch(held)
            self._timers.pop()
        self.next_due_ms = FOREVER_MS if first is None else first[0]

    def restore(self, watermark_ms: int) -> None:
        """Begin with what the state holds. ``watermark_ms`` is the one that was committed."""
        del watermark_ms  # what is due is told by the timers
        self._is_whole = next(self._state.scan(DATA, _DATA_END), None) is None
        self._timers.restore(NEVER_MS)
        self._settle()

    def _stored(self) -> Iterator[H]:
        """Iterate over all keys of the state, as it has them."""
        for raw, data in self._state.scan(DATA, _DATA_END):
            held = self._new(key_of(raw[1:]))
            self._unpack(held, read_body(data)[1:])
            yield held

    def load(self, key: Hashable) -> H:
        """Return what the state has of a key."""
        held = self._new(key)
        data = None if self._is_whole else self._state.get(DATA + held.raw)
        if data is not None:
            due_ms, *body = read_body(data)
            held.due_ms = held.stored_due_ms = due_ms
            held.is_stored = True
            self._unpack(held, body)
        return held

    def drain(self) -> Mapping[bytes, bytes | None]:
        """See ``Operator.drain``."""
        changed: dict[bytes, bytes | None] = {}
        for held, data in zip(self._dirty, self._encode_all(self._dirty), strict=True):
            changed.update(self._extra_rows(held))
            self._drain(held, data, changed)
            # Moved to the end, so that trim drops what was not touched for longest.
            del self._kept[held.key]
            if held.is_stored:
                self._kept[held.key] = held
        self._dirty.clear()
        return changed

    def _drain(self, held: H, data: bytes | None, changed: dict[bytes, bytes | None]) -> None:
        held.is_dirty = False
        due_ms = FOREVER_MS if data is None else held.due_ms
        if due_ms != held.stored_due_ms:
            if held.stored_due_ms < FOREVER_MS:
                changed[timer_row(held.stored_due_ms, held.raw)] = None
            if due_ms < FOREVER_MS:
                changed[timer_row(due_ms, held.raw)] = b""
            held.stored_due_ms = due_ms
        if data is not None or held.is_stored:
            changed[DATA + held.raw] = data
        held.is_stored = data is not None

    def _encode(self, held: H) -> bytes | None:
        return self._encode_all([held])[0]

    def _encode_all(self, many: Sequence[H]) -> list[bytes | None]:
        bodies = [self._pack(held) for held in many]
        full = zip(many, bodies, strict=True)
        lines = _encode_lines([[VERSION, held.due_ms, *body] for held, body in full if body])
        found = iter(lines.split(b"\n"))
        return [next(found) if body else None for body in bodies]

    def _touch(self, held: H) -> None:
        if not held.is_dirty:
            held.is_dirty = True
            self._dirty.append(held)

    def trim(self, rows: int) -> None:
        """See ``Operator.trim``."""
        surplus = self.size - rows
        if surplus > 0:
            self._is_whole = False
            self._forget(surplus)
        if not self._dirty:
            self._timers.trim(rows)

    def _forget(self, count: int) -> None:
        """Forget so many keys, or all that the state has as they are."""
        for key in [held.key for held in self._kept.values() if not held.is_dirty][:count]:
            del self._kept[key]

    @property
    def size(self) -> int:
        """See ``Operator.size``."""
        return len(self._kept)

    @property
    def changed(self) -> int:
        """See ``Operator.changed``."""
        return len(self._dirty)
