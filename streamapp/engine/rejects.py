"""The one place where a failed event meets the error policy of its agent.

Never drops silently: an event is tried again, written to the dead-letter topic with all that is
needed to find and replay it, counted as skipped, or left uncommitted with its agent stopped.
"""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamapp.core.batch import TP, Headers, OutRecord
from streamapp.core.limits import NO_LIMITS, Limits, size_of
from streamapp.engine.policy import ErrorPolicy, Verdict
from streamapp.errors import FutureTimeError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamapp.core.batch import RecordBatch

log = logging.getLogger(__name__)

#: Bytes of a stack that a dead letter carries: enough for the frames of the user's program.
_STACK_BYTES = 8_000
#: Characters of an exception's text that are logged, shown and sent: it may hold a whole record.
_TEXT_CHARS = 1_000
#: The header that tells how long the value of a letter was before it was cut.
_CUT = "dead-letter-cut"
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
    """Decides on the failed events of one agent; ``topic`` is where dead letters go.

    ``limits`` are what topics take: a letter that none would take would stop everything.
    """

    agent: str
    topic: str
    policy: ErrorPolicy
    stats: FeedStats
    limits: Mapping[str, Limits] = field(default_factory=dict)

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
        """Return the dead letter of a record: its raw key and value, the rest in headers.

        A record that is too large for the dead-letter topic is cut: ``dead-letter-cut`` has the
        bytes of its value then, and topic, partition and offset say where it is whole.
        """
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
        letter = OutRecord(
            TP(self.topic, 0),
            batch.keys[index],
            batch.values[index],
            batch.timestamps[index],
            (*own, *headers),
        )
        return _fitting(letter, headers, self.limits.get(self.topic, NO_LIMITS))


def _fitting(letter: OutRecord, headers: Headers, limits: Limits) -> OutRecord:
    """Return the letter within the limits; ``headers`` are those that it must have."""
    if limits.max_ahead_ms is not None:
        now_ms = time.time_ns() // 1_000_000
        letter = letter._replace(timestamp_ms=min(letter.timestamp_ms, now_ms))
    if limits.max_bytes is None or size_of(letter) <= limits.max_bytes:
        return letter
    value = letter.value or b""
    letter = letter._replace(headers=(*letter.headers, (_CUT, str(len(value)).encode())))
    excess = size_of(letter) - limits.max_bytes
    if excess <= len(value):
        return letter._replace(value=value[: len(value) - excess])
    return letter._replace(key=None, value=None, headers=(*headers, letter.headers[-1]))


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
