"""Tables written by columns: a whole batch in one call, each row read and written once.

The result is that of one record after the other, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, MutableMapping, Sequence
from itertools import repeat
from typing import Any, Protocol

import msgspec

from streamapp.core.columns import Slots, listed, numbered
from streamapp.core.columns_fold import fold_of
from streamapp.errors import UsageError
from streamapp.serde.ordered_keys import PLAIN_KEYS
from streamapp.state.shard import memory_key


class Grouped(Protocol):
    """What a batch can do for a table."""

    @property
    def records(self) -> Sequence[Any]:
        """The records."""

    def column(self, name: str) -> object:
        """Return a field of all records."""


class WritesColumns(MutableMapping[Any, Any]):
    """The part of a table that is written by columns."""

    def add(self, keys: object, amounts: object = 1) -> None:
        """Do ``table[key] += amount`` for each row of two columns, in their order.

        Args:
            keys: A column (an array, a list) of keys.
            amounts: A column of as many numbers, or one number for all.

        Raises:
            KeyError: There is no such row, and the table has no default.
            UsageError: The columns are not of one length.
        """
        names = listed(keys)
        given: Sequence[Any] | None = listed(amounts) if isinstance(amounts, Iterable) else None
        if given is not None and len(given) != len(names):
            msg = f"{len(given)} amounts cannot be added to {len(names)} keys"
            raise UsageError(msg, hint="Take both columns from the same batch")
        each = repeat(amounts) if given is None else given
        if not {*map(type, names)} <= PLAIN_KEYS:
            # A dict takes 1, 1.0 and True for one key; the table does not.
            for key, amount in zip(names, each, strict=False):
                self[key] += amount
            return
        sums: dict[Any, Any] = {}
        seen, held_by = sums.get, self._live_rows().get
        for key, amount in zip(names, each, strict=False):
            held = seen(key)
            if held is None:
                held = held_by(key)
                if type(held) is not int and type(held) is not float:
                    held = self[key]
            sums[key] = held + amount
        self._put_many(sums)

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
            InputError: A record has no such field, or it is no number.
            KeyError: There is no such row, and the table has no default.
        """
        folds = {name: fold_of(name, given) for name, given in fields.items()}
        keys, slots = _numbered(listed(batch.column(key) if isinstance(key, str) else key))
        rows = [self[one] for one in keys]
        grown = [
            fold.grow([_field(row, name) for row in rows], slots, fold.values(batch.records))
            for name, fold in folds.items()
        ]
        values = (dict(zip(folds, one, strict=True)) for one in zip(*grown, strict=True))
        self._put_many(
            {
                memory_key(one): _with(row, new)
                for one, row, new in zip(keys, rows, values, strict=True)
            }
        )

    def _live_rows(self) -> Mapping[Hashable, object]:
        """Return the rows that memory has for the event in hand; others are read one by one."""
        raise NotImplementedError

    def _put_many(self, rows: dict[Hashable, Any]) -> None:
        """Do ``table[key] = value`` for each; the keys are as memory holds them."""
        raise NotImplementedError


def _numbered(keys: Sequence[Any]) -> Slots:
    """Number keys as rows of a table: ``1``, ``1.0`` and ``True`` are three."""
    if {*map(type, keys)} <= PLAIN_KEYS:
        return numbered(keys)
    first: dict[Hashable, Any] = {}
    held = [memory_key(key) for key in keys]
    for one, key in zip(held, keys, strict=True):
        first.setdefault(one, key)
    return Slots([*first.values()], numbered(held).rows)


def _field(row: object, name: str) -> object:
    return row.get(name) if isinstance(row, dict) else getattr(row, name)


def _with(row: object, fields: dict[str, object]) -> object:
    if isinstance(row, dict):
        return row | fields
    return msgspec.structs.replace(row, **fields)  # type: ignore[type-var] # a record
