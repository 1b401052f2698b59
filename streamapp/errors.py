"""The one tree of errors, split by whose fault it is.

Every error that a user may see says what happened, where, and what to do next (``hint``). The
command line prints ``str(error)`` and exits with ``exit_code``; tracebacks are for our own bugs.
Only ``engine/rejects.py`` catches ``InputError`` and applies the agent's error policy.
"""

from __future__ import annotations

from typing import ClassVar


class StreamappError(Exception):
    """Base of everything that streamapp raises on purpose.

    ``hint`` is the next step for the reader, one sentence, and is part of ``str(error)``.
    """

    #: Exit status of the command line: 1 failure, 2 usage, 3 broker unreachable, 4 not ready.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, followed by the hint where there is one."""
        return f"{self.message}. {self.hint}" if self.hint else self.message


# --- the user's program or settings ---------------------------------------------------------


class ConfigError(StreamappError):
    """A setting, rule or declaration is wrong; nothing was started."""

    exit_code = 2


class UsageError(StreamappError):
    """The program calls streamapp in a way that cannot work (a write outside of an event)."""

    exit_code = 2


class PartitionMismatchError(ConfigError):
    """Two topics that must have the same number of partitions have not; names both numbers."""


# --- the data ----------------------------------------------------------------------------------


class InputError(StreamappError):
    """A record is bad: the agent's error policy decides what becomes of it."""


class DecodeError(InputError):
    """The bytes of a key or value are not what the topic declares."""


class EncodeError(InputError):
    """A value cannot be written as its topic or table declares (NaN in JSON, an unknown class).

    The values of one record decide that, so the policy for that record applies, not a stop.
    """


class EventTimeError(InputError):
    """A record does not say when it happened, or not in a form that means one moment."""


class FutureTimeError(EventTimeError):
    """A record claims to happen later than its topic believes: it would close every window."""


class TooLargeError(InputError):
    """A record exceeds a bound (depth, bytes) that protects the worker."""


class RefusedError(InputError):
    """No broker would take this record, however often it is sent."""


# --- the broker --------------------------------------------------------------------------------


class BrokerError(StreamappError):
    """The broker refused or failed."""


class BrokerUnavailableError(BrokerError):
    """The broker cannot be reached or opened (folder unwritable, nothing listens)."""

    exit_code = 3


class DeniedError(BrokerError):
    """The broker knows who we are, and does not allow what is asked."""


class BrokerFullError(BrokerError):
    """The broker has no room to write; nothing of the call was written; try again later."""


class UnknownTopicError(BrokerError):
    """The topic does not exist."""

    exit_code = 2


class FencedError(BrokerError):
    """This member lost its partitions to a newer generation; it must drop its state and rejoin."""


class NameTakenError(BrokerError):
    """Another member has the name of this one for good: it can neither commit nor join again."""


# --- the local state ---------------------------------------------------------------------------


class StateError(StreamappError):
    """The local store failed."""


class StateLockedError(StateError):
    """Another process holds this state folder."""


class StateCorruptError(StateError):
    """The store cannot be trusted: it is wiped and rebuilt from the changelog."""


class StateFullError(StateError):
    """No room for the store; the handle must be closed and opened again before further use."""


class StateUnavailableError(StateError):
    """The state folder cannot be used: unwritable, not a folder, or without file locks."""

    exit_code = 2
