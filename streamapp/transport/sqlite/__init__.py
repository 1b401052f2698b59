"""The embedded broker: a folder with an SQLite log, no server, durable."""

from streamapp.transport.sqlite.broker import SqliteBroker, SqliteOptions

__all__ = ["SqliteBroker", "SqliteOptions"]
