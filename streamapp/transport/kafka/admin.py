"""The client that is asked for topics, offsets and groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka.admin import AdminClient


class Admin:
    """Holds the client of now; ask it anew for each call."""

    def __init__(self, make: Callable[[], AdminClient]) -> None:
        self._make = make
        self.client = make()
        self._before = self.client

    def renew(self) -> None:
        """Have new connections from now on."""
        # Calls that wait for answers of the one before get them, or their time-outs.
        self._before, self.client = self.client, self._make()
