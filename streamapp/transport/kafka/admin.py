"""The client that is asked for topics, offsets and groups."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streamapp.transport.kafka.transactions import Connection

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from streamapp.transport.kafka.clients import Clients


class Admin:
    """Holds a client and does not use it beyond a break of its connection; see ``Connection``."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._make()
        self._before = self._client

    def _make(self) -> None:
        self._connection = Connection(self._clients.trouble)
        self._client = self._clients.admin({"error_cb": self._connection.note})

    @property
    def client(self) -> AdminClient:
        """Return the client of now: ask anew for each call."""
        with self._lock:
            self._client.poll(0)  # tells the connection's errors
            if self._connection.is_doubtful:
                # Calls that wait for answers of the one before get them, or their time-outs.
                self._before = self._client
                self._make()
            return self._client

    def renew(self) -> None:
        """Have new connections from now on."""
        self._connection.is_doubtful = True
