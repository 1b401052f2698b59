"""What accumulators are made of: each kind of part with its zero, its step and its merge.

An accumulator is a plain list of slots; aggregates of one field share their parts, so that ``avg``
and ``stddev`` beside each other count once. Steps and merges are statements of the loops that
``program`` puts together, written with ``{0}`` for the index of the part's first slot:

- step: ``acc`` is the accumulator, ``x`` the field (not ``None``), ``n`` how many there are now,
  ``t`` the time of the row, ``y`` the second field;
- merge: ``into`` and ``other``; ``a`` and ``b`` are how many each has, ``b`` not zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, cast

import msgspec

from streamapp.core.aggregates.lists import Collected, Frequent, Greatest
from streamapp.core.aggregates.packing import pack_value, unpack_value
from streamapp.core.aggregates.sketches import Distinct, Quantiles
from streamapp.core.aggregates.values import Check, Field
from streamapp.errors import UsageError


@dataclass(frozen=True, slots=True)
class Functions:
    """The functions of an aggregate of the application."""

    zero: Callable[[], object]
    add: Callable[[object, object], object]
    merge: Callable[[object, object], object]

    def pack(self, state: object) -> str:
        """Return the state as JSON.

        Raises:
            UsageError: It would come back as something else.
        """
        try:
            packed = msgspec.json.encode(state).decode()
            same = self.unpack(packed) == state
        except (msgspec.MsgspecError, TypeError, OverflowError) as error:
            raise _not_kept(state) from error
        if not same:
            raise _not_kept(state)
        return packed

    def unpack(self, packed: object) -> object:
        """Return the state that ``pack`` wrote, as the type of ``zero`` if that is no plain one."""
        kind = type(self.zero())
        kind = object if kind in _PLAIN else kind
        return msgspec.json.decode(cast("str", packed), type=kind)


_PLAIN: Final = {type(None), bool, int, float, str, list, dict}


def _not_kept(state: object) -> UsageError:
    message = f"The state of an aggregate would not survive a restart: {state!r:.80}"
    return UsageError(
        message, hint="Make it of text, numbers, lists and dicts, or a msgspec.Struct or a tuple"
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A run of slots. ``by`` is a second field, ``param`` what the kind needs to know."""

    kind: str
    field: Field | None = None
    check: Check = Check.NUMBER
    by: Field | None = None
    param: object = None


#: How a slot becomes something that JSON keeps, and back.
Codec = tuple[Callable[[object], object], Callable[[object], object]]


@dataclass(frozen=True, slots=True)
class Kind:
    """How the slots of one kind of part begin, grow, merge and are stored.

    ``zero`` has an expression for each slot; ``zero{0}`` in it is what ``make`` returns. ``codec``
    is that of every slot; without one they are stored as they are.
    """

    zero: tuple[str, ...]
    add: str
    merge: str
    make: Callable[[Part], Callable[[], object]] | None = None
    codec: Callable[[Part], Codec] | None = None


def _numbers(part: Part) -> Codec:
    del part
    return pack_value, unpack_value


class _Packs(Protocol):
    def pack(self) -> object: ...


def _packed(sketch: object) -> object:
    return cast("_Packs", sketch).pack()


def _bounded(part: Part) -> Callable[[], Frequent | Greatest | Collected]:
    return partial(_BOUNDED[part.kind], cast("int", part.param))


_BOUNDED: Final[dict[str, Callable[[int], Frequent | Greatest | Collected]]] = {
    "frequent": Frequent,
    "greatest": Greatest,
    "collect": Collected,
}


def _bounded_codec(part: Part) -> Codec:
    make = _bounded(part)
    return _packed, lambda packed: make().unpack(cast("list[object]", packed))


def _functions(part: Part) -> Functions:
    return cast("Functions", part.param)


_ZERO: Final = ("zero{0}()",)
_MERGE: Final = "into[{0}].merge(other[{0}])"
_LIST: Final = Kind(_ZERO, "acc[{0}].add(x)", _MERGE, _bounded, _bounded_codec)

#: ``x + 0`` makes one zero of the two, so that it does not matter which one was there first.
KINDS: Final[dict[str, Kind]] = {
    "rows": Kind(("0",), "acc[{0}] += 1", "into[{0}] += other[{0}]"),
    "count": Kind(("0",), "acc[{0}] = n = acc[{0}] + 1", "into[{0}] = a + b"),
    "sum": Kind(("0",), "acc[{0}] += x", "into[{0}] += other[{0}]", codec=_numbers),
    "min": Kind(
        ("None",),
        "if n == 1 or x < acc[{0}]: acc[{0}] = x + 0",
        "if not a or other[{0}] < into[{0}]: into[{0}] = other[{0}]",
        codec=_numbers,
    ),
    "max": Kind(
        ("None",),
        "if n == 1 or x > acc[{0}]: acc[{0}] = x + 0",
        "if not a or other[{0}] > into[{0}]: into[{0}] = other[{0}]",
        codec=_numbers,
    ),
    # Welford 1962; Chan, Golub, LeVeque 1979.
    "moments": Kind(
        ("0.0", "0.0"),
        "apart = x - acc[{0}]\n"
        "acc[{0}] = mean = acc[{0}] + apart / n\n"
        "acc[{1}] += apart * (x - mean)",
        "apart = other[{0}] - into[{0}]\n"
        "share = b / (a + b)\n"
        "into[{0}] += apart * share\n"
        "into[{1}] += other[{1}] + apart * apart * (a * share)",
    ),
    "first": Kind(
        ("None", "None"),
        "if n == 1 or t < acc[{0}]: acc[{0}] = t; acc[{1}] = x",
        "if not a or other[{0}] < into[{0}]: into[{0}] = other[{0}]; into[{1}] = other[{1}]",
        codec=_numbers,
    ),
    "last": Kind(
        ("None", "None"),
        "if n == 1 or t >= acc[{0}]: acc[{0}] = t; acc[{1}] = x",
        "if not a or other[{0}] >= into[{0}]: into[{0}] = other[{0}]; into[{1}] = other[{1}]",
        codec=_numbers,
    ),
    "distinct": Kind(
        _ZERO, "acc[{0}].add(x)", _MERGE, lambda _: Distinct, lambda _: (_packed, Distinct.unpack)
    ),
    "quantiles": Kind(
        _ZERO, "acc[{0}].add(x)", _MERGE, lambda _: Quantiles, lambda _: (_packed, Quantiles.unpack)
    ),
    "frequent": _LIST,
    "collect": _LIST,
    "greatest": Kind(
        _ZERO, "if y is not None: acc[{0}].add(x, y)", _MERGE, _bounded, _bounded_codec
    ),
    # Its step may fail, so it is computed before anything of the row is stored.
    "functions": Kind(
        _ZERO,
        "acc[{0}] = new{0}",
        "into[{0}] = merge{0}(into[{0}], other[{0}])",
        lambda part: _functions(part).zero,
        lambda part: (_functions(part).pack, _functions(part).unpack),
    ),
}


class Result(Protocol):
    """The result of the slots of some parts."""

    def __call__(self, *slots: object) -> object:
        """Return the result; it shares nothing with the slots."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What is computed: the parts, and the result as a function of all their slots in order."""

    parts: tuple[Part, ...]
    result: Result


def same(value: object) -> object:
    """Return the only slot."""
    return value


def some(n: int, value: object) -> object:
    """Return the second slot if there was a value."""
    return value if n else None


#: Results that are the last slot wherever the first one is not zero.
LAST_SLOT: Final[frozenset[object]] = frozenset({same, some})
