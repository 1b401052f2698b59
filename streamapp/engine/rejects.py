"""The one place where a failed event meets the error policy of its agent.

Never drops silently: an event is tried again, written to the dead-letter topic with all that is
needed to find and replay it, counted as skipped, or left uncommitted with its agent stopped.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, OutRecord
from streamapp.engine.policy import ErrorPolicy, Verdict
from streamapp.errors import FutureTimeError, InputError

if TYPE_CHECKING:
    from streamapp.core.batch import RecordBatch

log = logging.getLogger(__name__)

#: Bytes of a stack that a dead letter carries: enough for the frames of the user's program.
_STACK_BYTES = 8_000
#: Characters of an exception's text that are logged, shown and sent: it may hold a whole record.
_TEXT_CHARS = 1_000
#: Errors of one agent that are logged one by one before only every hundredth is.
_LOUD_ERRORS = 20


class AgentStoppedError(Exception):
    """The policy says stop: the agent's event stays uncommitted."""


@dataclass(slots=True)
class FeedStats:
    """What an agent has done since the worker started; plain counts, read at scrape."""

    events: int = 0
    bytes: int = 0
    retries: int = 0
    conflicts: int = 0
    skipped: int = 0
    dead_letters: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    last_error: str = ""

    @property
    def from_the_future(self) -> int:
        """Records that were refused because their time is too far ahead of the clock."""
        return self.errors.get(FutureTimeError.__name__, 0)

    def count_error(self, exc: BaseException) -> int:
        """Count an error by its type; return the number of errors so far."""
        name = type(exc).__name__
        self.errors[name] = self.errors.get(name, 0) + 1
        self.last_error = told(exc)[:300]
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Rejects:
    """Decides on the failed events of one agent; ``topic`` is where dead letters go."""

    agent: str
    topic: str
    policy: ErrorPolicy
    stats: FeedStats

    def judge(self, exc: Exception, record: str, failures: int) -> Verdict:
        """Count and log a failure, and say what becomes of the event.

        ``record`` names it for the log; ``failures`` counts those of this event, from 1.
        """
        is_retriable = not isinstance(exc, InputError)
        verdict = self.policy.verdict(failures, is_retriable=is_retriable)
        errors = self.stats.count_error(exc)
        if verdict is Verdict.RETRY:
            self.stats.retries += 1
        if errors <= _LOUD_ERRORS or not errors % 100:
            log.warning(
                "Agent %s failed on %s (%s, failure %d of this event): %s",
                self.agent, record, verdict.value, failures, told(exc),
            )  # fmt: skip
        return verdict

    def letter(self, batch: RecordBatch, index: int, exc: Exception, failures: int) -> OutRecord:
        """Return the dead letter of a record: its raw key and value, the rest in headers."""
        # Each part is bounded: long words would leave no room for the frames.
        stack = "".join(
            f"{part[:_TEXT_CHARS].rstrip()}\n" for part in traceback.format_exception(exc)
        )
        about = {
            "topic": batch.tp.topic,
            "partition": str(batch.tp.partition),
            "offset": str(batch.offsets[index]),
            "timestamp-ms": str(batch.timestamps[index]),
            "agent": self.agent,
            "cause": told(exc),
            "failures": str(failures),
            "stack": stack[-_STACK_BYTES:],
        }
        headers = tuple((f"dead-letter-{name}", _utf8(text)) for name, text in about.items())
        own = batch.headers[index] if batch.headers is not None else ()
        return OutRecord(
            TP(self.topic, 0),
            batch.keys[index],
            batch.values[index],
            batch.timestamps[index],
            (*own, *headers),
        )


def told(exc: BaseException) -> str:
    """Return type and text of an exception; bounded, and valid Unicode whatever its words are.

    The words are the user's: an error about the error would end the worker, at every start again.
    """
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 - whatever its `__str__` raises, there are no words
        text = "(it has no words)"
    return _utf8(f"{type(exc).__name__}: {text}"[:_TEXT_CHARS]).decode()


def _utf8(text: str) -> bytes:
    return text.encode(errors="backslashreplace")
