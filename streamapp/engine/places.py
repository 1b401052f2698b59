"""Where records go, by their keys: found once for each key, and for many keys at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from streamapp.core.batch import TP
from streamapp.transport.partitioner import partitions_for_keys

#: Keys that are remembered.
_MOST: Final = 50_000
#: Types of keys that can be: objects of JSON cannot, and ``True`` would be taken for ``1``.
_MEMORABLE: Final = {str, int, bytes, tuple, type(None)}
#: The partition of a key and its bytes; both ``None`` for a record without a key, which goes
#: anywhere.
Place = tuple[TP, bytes] | tuple[None, None]


class Places:
    """The places of a topic's keys; ``encode`` gives the bytes of keys, ``None`` for no key."""

    def __init__(
        self,
        topic: str,
        partitions: int,
        encode: Callable[[Sequence[Hashable]], Sequence[bytes | None]],
    ) -> None:
        self._tps = [TP(topic, number) for number in range(partitions)]
        self._encode = encode
        self._known: dict[Hashable, Place] = {}

    def of(self, keys: Sequence[Hashable]) -> tuple[Sequence[TP | None], Sequence[bytes | None]]:
        """Return the partition of each key, ``None`` for anywhere, and its bytes.

        Raises:
            Exception: Whatever ``encode`` raises.
        """
        if len(self._tps) == 1:
            # To write the bytes again takes a fifth of looking them up.
            return self._tps * len(keys), self._encode(keys)
        if _MEMORABLE.issuperset(map(type, keys)):
            found = self._found(keys)
        else:
            found = self._placed(self._encode(keys))
        return [tp for tp, _ in found], [raw for _, raw in found]

    def _found(self, keys: Sequence[Hashable]) -> Sequence[Place]:
        known = self._known
        found = [*map(known.get, keys)]
        if None not in found:
            return found  # type: ignore[return-value] # the line above has looked
        missing = [at for at, place in enumerate(found) if place is None]
        new = dict.fromkeys([keys[at] for at in missing])
        if len(known) + len(new) > _MOST:
            known.clear()
            missing, new = [*range(len(keys))], dict.fromkeys(keys)
        self._find([*new])
        for at in missing:
            found[at] = known[keys[at]]
        return found  # type: ignore[return-value] # none is missing now

    def _find(self, keys: Sequence[Hashable]) -> None:
        self._known.update(zip(keys, self._placed(self._encode(keys)), strict=True))

    def _placed(self, raws: Sequence[bytes | None]) -> Sequence[Place]:
        there = [raw for raw in raws if raw is not None]
        numbers = iter(partitions_for_keys(there, len(self._tps)))
        return [(None, None) if raw is None else (self._tps[next(numbers)], raw) for raw in raws]
