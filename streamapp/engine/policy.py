"""What becomes of an event that fails: the error policy of an agent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from streamapp.errors import ConfigError


class Verdict(StrEnum):
    """The end of an event that did not succeed."""

    DEAD_LETTER = "dead_letter"
    SKIP = "skip"
    STOP = "stop"
    RETRY = "retry"


#: Longest pause between two tries, in ms: a partition that waits must notice a repair soon.
_LONGEST_PAUSE_MS = 30_000


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """Try ``retries`` more times, pausing ``backoff_ms`` and then twice as long each time.

    Then ``then``: ``dead_letter`` writes the record to the dead-letter topic and goes on (default),
    ``skip`` counts it and goes on, ``stop`` stops the agent with the event uncommitted, ``retry``
    never gives up and holds the partition. A record that cannot be decoded is not tried again.

    Raises:
        ConfigError: ``then`` is none of these, or a number is none that is whole, or negative.
    """

    retries: int = 3
    backoff_ms: int = 100
    then: Verdict | str = Verdict.DEAD_LETTER

    def __post_init__(self) -> None:
        if self.then not in tuple(Verdict):  # what cannot be hashed is none of them either
            msg = f"Unknown error policy {str(self.then)!r}"
            raise ConfigError(msg, hint=f"Use one of {', '.join(sorted(Verdict))}")
        given = (self.retries, self.backoff_ms)
        if {*map(type, given)} != {int} or min(given) < 0:
            msg = (
                f"An error policy cannot have {self.retries!r} retries with {self.backoff_ms!r} ms"
            )
            raise ConfigError(msg, hint="Use whole numbers of zero and above")

    def verdict(self, failures: int, *, is_retriable: bool) -> Verdict:
        """Decide after the ``failures``-th failure (from 1) of an event."""
        if is_retriable and (failures <= self.retries or self.then == Verdict.RETRY):
            return Verdict.RETRY
        # A record whose bytes are bad stays bad: holding the partition for ever helps nobody.
        return Verdict.DEAD_LETTER if self.then == Verdict.RETRY else Verdict(self.then)

    def pause_ms(self, failures: int) -> int:
        """Return how long to wait before the next try."""
        return min(self.backoff_ms * 2 ** min(failures - 1, 20), _LONGEST_PAUSE_MS)


def policy_of(declared: ErrorPolicy | str | None) -> ErrorPolicy:
    """Return the policy that a declaration means; a word alone gives up (or not) at once."""
    if isinstance(declared, ErrorPolicy):
        return declared
    if declared is None:
        return ErrorPolicy()
    return ErrorPolicy(retries=0, then=declared)
