"""Tables written by columns: a whole batch in one call, each row read and written once.

The result is that of one record after the other, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from copy import copy
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
import numpy as np

from streamapp.core.columns import Slots, exact, listed, numbered, texts_of
from streamapp.core.columns_fold import added, fold_of
from streamapp.errors import UsageError
from streamapp.serde.coders import MAX_BYTES, Decoder
from streamapp.serde.ordered_keys import PLAIN_KEYS
from streamapp.serde.strict_json import json_lines
from streamapp.state.rows import KEY_ROOM, Packed
from streamapp.state.scope import current_scope
from streamapp.state.shard import written_key

if TYPE_CHECKING:
    from streamapp.core.aggregates.inputs import Floats, Ints
    from streamapp.core.columns import Column
    from streamapp.state.rows import RowCodec
    from streamapp.state.scope import EventScope
    from streamapp.state.shard import Shard
    from streamapp.state.table import TableSpec

_NUMBERS: Final = frozenset({int, float})


class Grouped(Protocol):
    """What a batch can do for a table."""

    @property
    def records(self) -> Sequence[Any]:
        """The records."""

    def column(self, name: str) -> object:
        """Return a field of all records."""


class WritesColumns(MutableMapping[Any, Any]):
    """The part of a table that is written by columns."""

    spec: TableSpec
    codec: RowCodec
    max_bytes: int | None
    _is_lasting: bool

    def add(self, keys: object, amounts: object = 1) -> None:
        """Do ``table[key] += amount`` for each row of two columns, in their order.

        Args:
            keys: A column (an array, a list) of keys.
            amounts: A column of as many numbers, or one number for all.

        Raises:
            KeyError: There is no such row, and the table has no default.
            UsageError: One is no column, or they are not of one length.
        """
        by = _column(keys, "key")
        given = _column(amounts, "amount") if isinstance(amounts, Iterable) else None
        if given is not None and len(given) != len(by):
            msg = f"{len(given)} amounts cannot be added to {len(by)} keys"
            raise UsageError(msg, hint="Take both columns from the same batch")
        numbers = exact(amounts if given is None else given, len(by))
        if numbers is not None and texts_of(by) is not None:
            self._add_numbers(numbered(by), numbers)
            return
        names = listed(by)
        each = repeat(amounts) if given is None else listed(given)
        if not {*map(type, names)} <= PLAIN_KEYS:
            # A dict takes 1, 1.0 and True for one key; the table does not.
            for key, amount in zip(names, each, strict=False):
                self[key] += amount
            return
        sums: dict[Hashable, Any] = {}
        held_by = self._live_rows().get
        for key, amount in zip(names, cast("Iterable[Any]", each), strict=False):
            if key in sums:
                sums[key] += amount
                continue
            held = held_by(key)
            if type(held) is not int and type(held) is not float:
                held = self[key]
            sums[key] = held + amount
        self._put_many(sums)

    def _add_numbers(self, slots: Slots, numbers: Ints | Floats) -> None:
        """Add each number to the row of its key."""
        live = self._live_rows().get
        sums: list[Any] = [live(key) for key in slots.keys]
        if not {*map(type, sums)} <= _NUMBERS:
            sums = [
                one if type(one) in _NUMBERS else self[key]
                for one, key in zip(sums, slots.keys, strict=True)
            ]
        if {*map(type, sums)} <= _NUMBERS:
            sums = added(sums, slots.rows, numbers)
        else:
            for row, number in zip(slots.rows.tolist(), numbers.tolist(), strict=True):
                sums[row] = sums[row] + number
        self._put_many(dict(zip(slots.keys, sums, strict=True)))

    def aggregate(self, batch: Grouped, key: object, /, **fields: object) -> None:
        """Let fields of rows grow: ``spent.aggregate(batch, "user", n=streamapp.count())``.

        The row of each record's key gets its ``n`` increased by one; rows are records or dicts.
        Fields that hold ``None`` begin with the first number, and fields not named stay.

        Args:
            batch: Records, as ``stream.batches()`` gives them.
            key: A field of the records, or a column of keys.
            fields: What each field of a row grows by: ``streamapp.count``, ``sum``, ``min`` or
                ``max``.

        Raises:
            ConfigError: Another aggregate is given.
            EncodeError: A field of the rows cannot hold the result.
            InputError: A record has no such field, or it is no number.
            KeyError: There is no such row, and the table has no default.
        """
        folds = {name: fold_of(name, given) for name, given in fields.items()}
        by = batch.column(key) if isinstance(key, str) else key
        keys, slots = _numbered(by, self.spec.key_type)
        if not keys:
            return
        rows, is_readable = self._get_many(keys), True
        for name, fold in folds.items():
            held = [*map(_getter(rows, name), rows)]
            grown = fold.grow(held, slots, fold.values(batch.records))
            is_readable &= {*map(type, grown)} <= {*self.codec.numbers.get(name, ())}
            rows = _with(rows, name, grown)
        self._put_many(dict(zip(keys, rows, strict=True)), is_readable=is_readable)

    def update(self, *given: Any, **rows: Any) -> None:  # noqa: ANN401 - as a dict has it
        """Set rows, as ``dict.update`` does.

        Raises:
            UsageError: A batch is given, whose records are no rows.
        """
        if given and hasattr(given[0], "records"):
            msg = "A batch says no rows to set"
            hint = (
                'Write table.add(batch.user, batch.amount) or table.aggregate(batch, "user", ...)'
            )
            raise UsageError(msg, hint=hint)
        super().update(*given, **rows)

    def clear(self) -> None:
        """Delete all rows that the event sees, with one scan: the inherited one makes one a row."""
        for key in list(self):
            del self[key]

    # --- many rows at once; keys are as memory holds them ---

    def _live_rows(self) -> Mapping[Hashable, object]:
        """Return the rows that memory has for the event in hand; others are read one by one."""
        scope = current_scope.get()
        if scope is None or not self._is_lasting:
            return {}
        return scope.live_rows(self._shard(scope))

    def _get_many(self, keys: Mapping[Hashable, Any]) -> list[Any]:
        """Return the row of each key; the mapping's values are the keys as the user has them."""
        live = self._live_rows()
        held = [live.get(key) for key in keys]
        packed = [one.data for one in held if type(one) is Packed]
        decode = self.codec.decode
        found = iter(decode.many(packed) if isinstance(decode, Decoder) else map(decode, packed))
        return [
            # A default may hand out one object for all rows, and fields are set in place.
            next(found) if type(one) is Packed else copy(self[key])
            for one, key in zip(held, keys.values(), strict=True)
        ]

    def _put_many(self, rows: dict[Hashable, Any], *, is_readable: bool = False) -> None:
        """Do ``table[key] = value`` for each; all of these rows were read, so their keys can be.

        ``is_readable``: what is new in records is of the declared types.
        """
        scope = current_scope.get()
        if scope is None:
            raise self._not_in_an_event("written")  # noqa: EM101 - a word, not a message
        if not self.codec.may_share(rows.values()):
            packed = self._packed_many(rows) if is_readable else None
            rows = packed or {key: self._held(key, value, scope) for key, value in rows.items()}
        scope.write_many(self._shard(scope), rows)

    def _packed_many(self, rows: dict[Hashable, Any]) -> dict[Hashable, Packed] | None:
        """Encode records at once; ``None`` if they must be encoded one by one."""
        values = [*rows.values()]
        if not self._is_lasting or not {*map(type, values)} <= {self.codec.record}:
            return None
        try:
            lines = json_lines(values)
        except Exception:  # noqa: BLE001 - encoded one by one, it says which one and why
            return None
        most = MAX_BYTES if self.max_bytes is None else min(MAX_BYTES, self.max_bytes - KEY_ROOM)
        if max(map(len, lines), default=0) > most:
            return None
        return dict(zip(rows, map(Packed, lines), strict=True))

    def _shard(self, scope: EventScope) -> Shard:
        raise NotImplementedError

    def _held(self, key: Hashable, value: object, scope: EventScope) -> object:
        raise NotImplementedError

    def _not_in_an_event(self, done: str) -> UsageError:
        raise NotImplementedError


def _column(column: object, what: str) -> Sequence[Any] | Column:
    if isinstance(column, str | bytes):
        msg = f"table.add: the {what}s are {column!r:.40}, which is one {what}"
        raise UsageError(msg, hint="Give a column: table.add(batch.user, batch.amount)")
    return column if isinstance(column, np.ndarray) else listed(column)


def _numbered(column: object, key_type: object) -> tuple[dict[Hashable, Any], Ints]:
    """Number keys as rows of a table, to which ``1``, ``1.0`` and ``True`` are three.

    Returns:
        Each key as memory holds it and as the user has it, in order, and the number of each name's.
    """
    if texts_of(column) is not None:
        return _of_slots(numbered(column))
    names = listed(column)
    if {*map(type, names)} <= PLAIN_KEYS:
        return _of_slots(numbered(names))
    held = [written_key(name, key_type) for name in names]
    first: dict[Hashable, Any] = {}
    for key, name in zip(held, names, strict=True):
        first.setdefault(key, name)
    return first, numbered(held).rows


def _of_slots(slots: Slots) -> tuple[dict[Hashable, Any], Ints]:
    return dict(zip(slots.keys, slots.keys, strict=True)), slots.rows


def _getter(rows: Sequence[Any], name: str) -> Callable[[Any], object]:
    return (lambda row: row.get(name)) if isinstance(rows[0], dict) else attrgetter(name)


def _with(rows: Sequence[Any], name: str, values: Sequence[object]) -> list[Any]:
    """Set a field of each row; rows that cannot be changed are replaced."""
    if isinstance(rows[0], dict):
        return [row | {name: value} for row, value in zip(rows, values, strict=True)]
    if isinstance(rows[0], msgspec.Struct) and rows[0].__struct_config__.frozen:
        return [
            msgspec.structs.replace(row, **{name: value})
            for row, value in zip(rows, values, strict=True)
        ]
    for row, value in zip(rows, values, strict=True):
        setattr(row, name, value)
    return [*rows]
