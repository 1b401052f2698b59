"""One cluster as seen by one broker object: its clients and what is asked of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from streamapp.errors import BrokerUnavailableError
from streamapp.transport.kafka.admin import Admin
from streamapp.transport.kafka.clients import Clients
from streamapp.transport.kafka.groups import Groups
from streamapp.transport.kafka.names import Names
from streamapp.transport.kafka.positions import Positions
from streamapp.transport.kafka.rights import Rights
from streamapp.transport.kafka.topics import Topics

if TYPE_CHECKING:
    from streamapp.transport.kafka.options import KafkaOptions


class Cluster:
    """Holds together what members and readers need; thread-safe."""

    def __init__(self, options: KafkaOptions) -> None:
        """Connect.

        Raises:
            BrokerUnavailableError: Nothing answers there; the message says why.
        """
        self.clients = Clients(options)
        self.trouble = self.clients.trouble
        self.names = Names(options.prefix)
        self.admin = Admin(self.clients)
        self.topics = Topics(self.admin, self.names, options, self.trouble)
        self.positions = Positions(self.clients, self.names)
        self.groups = Groups(self.admin, self.topics, self.positions, self.names)
        self.rights = Rights(
            self.admin, self.positions, self.names, options.security.principal, self.trouble
        )
        with ExitStack() as undo:
            undo.callback(self.admin.close)
            try:
                self.topics.connect()
            except BrokerUnavailableError as exc:
                raise self.trouble.look_into(exc, self.clients.settings) from exc
            undo.pop_all()

    def renew(self) -> None:
        """Use new connections from now on: those that are open may be dead without a word."""
        self.admin.renew()
        self.positions.renew()

    def close(self) -> None:
        """Let go of the clients that ask; safe to repeat."""
        self.positions.close()
        self.admin.close()
