"""The client that is asked for topics, offsets and groups."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streamapp.transport.kafka.transactions import Connection

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from streamapp.transport.kafka.clients import Clients


class Admin:
    """Holds a client and does not use it beyond a break of its connection; see ``Connection``.

    Answers come in a thread of the client's own. If the last reference went there, as by garbage
    collection in the middle of an answer, librdkafka would end the process: so it is closed.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._before: AdminClient | None = None
        self._client: AdminClient | None = self._made()

    def _made(self) -> AdminClient:
        self._connection = Connection(self._clients.trouble)
        return self._clients.admin({"error_cb": self._connection.note})

    @property
    def client(self) -> AdminClient:
        """Return the client of now: ask anew for each call.

        Raises:
            BrokerError: It is closed.
        """
        with self._lock:
            client = self._client
            if client is None:
                raise self._clients.closed()
            client.poll(0)  # tells the connection's errors
            if self._connection.is_doubtful:
                # Calls that wait for answers of the one before get them, or their time-outs.
                self._before, client = client, self._made()
                self._client = client
            return client

    def renew(self) -> None:
        """Have new connections from now on."""
        self._connection.is_doubtful = True

    def close(self) -> None:
        """Let go of the client, here and now; safe to repeat."""
        with self._lock:
            self._client = self._before = None
