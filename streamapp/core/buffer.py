"""A bounded buffer between who brings items and who takes them, and what becomes of the excess.

Never more than its bounds, in items and in bytes; every item that is offered is held, was taken or
is counted as dropped. Pure: who waits for room, and for how long, is up to the caller.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from streamapp.errors import ConfigError, StreamappError, TooLargeError

T = TypeVar("T")

#: What becomes of an item for which there is no room: it waits, is dropped, or takes the place of
#: the oldest ones; of ``sample_every`` items one takes their place, the others are dropped; or it
#: is an error.
Excess = Literal["block", "drop_newest", "drop_oldest", "sample", "fail"]


class BufferFullError(StreamappError):
    """A buffer that must not lose anything is full; nothing was changed."""


class Offer(StrEnum):
    """What became of an item."""

    ACCEPTED = "accepted"
    #: There is no room; it was not taken in and not counted: offer it again later.
    MUST_WAIT = "must_wait"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a buffer holds; ``size_bytes`` of ``None`` is no limit.

    Raises:
        ConfigError: A bound is not at least 1.
    """

    items: int
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.items < 1 or (self.size_bytes is not None and self.size_bytes < 1):
            msg = f"A buffer cannot be bounded by {self.items} items and {self.size_bytes} bytes"
            raise ConfigError(msg, hint="Let each bound be at least 1")


class Buffer(Generic[T]):
    """Items in the order in which they were offered.

    ``offered`` counts items that are no longer in the hands of who brings them; ``dropped`` those
    that nobody will take, by the policy that dropped them.
    """

    def __init__(self, bounds: Bounds, excess: Excess = "block", sample_every: int = 10) -> None:
        if sample_every < 1:
            msg = f"One of {sample_every} items cannot be kept"
            raise ConfigError(msg, hint="Let sample_every be at least 1")
        self.bounds = bounds
        self.size_bytes = 0
        self.offered = 0
        self.dropped: Counter[str] = Counter()
        self._excess = excess
        self._sample_every = sample_every
        #: Items that were dropped since the last one that was kept of those without room.
        self._unsampled = 0
        self._items: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def accepted(self) -> int:
        """Number of items that were taken or are held."""
        return self.offered - self.dropped.total()

    def offer(self, item: T, size_bytes: int = 0) -> Offer:
        """Take an item in, or do with the excess as declared.

        Raises:
            BufferFullError: There is no room, and the policy is ``fail``.
            TooLargeError: The item alone is beyond the bound, and the policy drops nothing.
        """
        if self._has_room(size_bytes):
            return self._accept(item, size_bytes)
        if self._excess in ("block", "fail"):
            self._check_size(size_bytes)
            return self._refuse()
        if self._could_hold(size_bytes) and self._is_chosen():
            while not self._has_room(size_bytes):
                self.size_bytes -= self._items.popleft()[1]
                self.dropped[self._excess] += 1
            return self._accept(item, size_bytes)
        self.offered += 1
        self.dropped[self._excess] += 1
        return Offer.DROPPED

    def has_room_for(self, items: int, size_bytes: int) -> bool:
        """Tell whether so many items, of so many bytes altogether, would all be taken in.

        Raises:
            TooLargeError: They would not be if the buffer were empty.
        """
        most = self.bounds.size_bytes
        if items > self.bounds.items or (most is not None and size_bytes > most):
            msg = f"{items} items of {size_bytes} bytes that belong together, in a buffer of"
            msg += f" {self.bounds.items} items" + (f" and {most} bytes" if most else "")
            raise TooLargeError(msg, hint="Raise its bounds above what one record brings")
        is_small = most is None or self.size_bytes + size_bytes <= most
        return is_small and len(self._items) + items <= self.bounds.items

    def keep(self, item: T, size_bytes: int = 0) -> None:
        """Take in an item that was accepted before, whatever the bounds are now."""
        self._accept(item, size_bytes)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items, the oldest first."""
        return (item for item, _ in self._items)

    def take(self) -> T:
        """Return the oldest item.

        Raises:
            IndexError: There is none.
        """
        item, size_bytes = self._items.popleft()
        self.size_bytes -= size_bytes
        return item

    def _has_room(self, size_bytes: int) -> bool:
        most = self.bounds.size_bytes
        return len(self._items) < self.bounds.items and (
            most is None or self.size_bytes + size_bytes <= most
        )

    def _could_hold(self, size_bytes: int) -> bool:
        return self.bounds.size_bytes is None or size_bytes <= self.bounds.size_bytes

    def _check_size(self, size_bytes: int) -> None:
        if not self._could_hold(size_bytes):
            msg = f"An item of {size_bytes} bytes in a buffer of {self.bounds.size_bytes} bytes"
            raise TooLargeError(msg, hint="Raise the bound above the largest item")

    def _accept(self, item: T, size_bytes: int) -> Offer:
        self._items.append((item, size_bytes))
        self.size_bytes += size_bytes
        self.offered += 1
        return Offer.ACCEPTED

    def _refuse(self) -> Offer:
        if self._excess == "block":
            return Offer.MUST_WAIT
        msg = f"A buffer of {self.bounds.items} items, {self.bounds.size_bytes} bytes is full"
        raise BufferFullError(msg, hint="Raise its bounds, or let it block or drop")

    def _is_chosen(self) -> bool:
        """Tell whether an item for which there is no room takes the place of older ones."""
        if self._excess != "sample":
            return self._excess == "drop_oldest"
        self._unsampled = (self._unsampled + 1) % self._sample_every
        return self._unsampled == 0
