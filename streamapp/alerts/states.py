"""The life of an alert: inactive, pending, firing, resolved, as one table of transitions.

Pure: the time comes in, the next state and at most one transition come out. The state is plain
data that a table keeps, so a restart between two evaluations changes nothing. Transitions of
one alert alternate between firing and resolved. Source: the states of Prometheus
(rules/alerting.go), with hysteresis added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streamapp.errors import InputError

if TYPE_CHECKING:
    from streamapp.alerts.rules import Rule


class Status(Enum):
    """Where an alert stands; ``INACTIVE`` is armed, and is not stored."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Signal(Enum):
    """What one evaluation says."""

    #: The condition holds, but not yet for as long as the rule asks.
    WAITS = "waits"
    #: The condition has held for as long as the rule asks.
    HELD = "held"
    #: Neither the condition nor its end: between the thresholds, still kept, or no value.
    LINGERS = "lingers"
    #: The condition is over.
    CLEAR = "clear"


class AlertState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of an alert between evaluations; times are epoch milliseconds.

    ``active_at_ms`` is the first true evaluation since the alert was last clear,
    ``clear_since_ms`` the first clear one while ``keep_firing_for`` runs. ``episode`` counts how
    often the alert has fired.
    """

    status: Status
    active_at_ms: int
    episode: int = 0
    fired_at_ms: int | None = None
    clear_since_ms: int | None = None
    resolved_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change that people are told of: to ``FIRING`` or to ``RESOLVED``.

    Fingerprint, ``episode`` and status identify it; times would not, since an alert may fire
    twice in a millisecond.
    """

    status: Status
    at_ms: int
    active_at_ms: int
    episode: int
    value: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The state to keep (``None``: nothing to remember), what was seen, and what changed."""

    state: AlertState | None
    signal: Signal
    transition: Transition | None = None


#: An alert lingers only while it fires: elsewhere, what is not true is clear.
_NEXT: Final = {
    (Status.INACTIVE, Signal.WAITS): Status.PENDING,
    (Status.INACTIVE, Signal.HELD): Status.FIRING,
    (Status.INACTIVE, Signal.CLEAR): Status.INACTIVE,
    (Status.PENDING, Signal.WAITS): Status.PENDING,
    (Status.PENDING, Signal.HELD): Status.FIRING,
    (Status.PENDING, Signal.CLEAR): Status.INACTIVE,
    (Status.FIRING, Signal.HELD): Status.FIRING,
    (Status.FIRING, Signal.LINGERS): Status.FIRING,
    (Status.FIRING, Signal.CLEAR): Status.RESOLVED,
    (Status.RESOLVED, Signal.WAITS): Status.PENDING,
    (Status.RESOLVED, Signal.HELD): Status.FIRING,
    (Status.RESOLVED, Signal.CLEAR): Status.RESOLVED,
}

#: An episode is under way: its start stays.
_OPEN: Final = {Status.PENDING, Status.FIRING}

#: Entering one of these is told to people.
_TOLD: Final = {Status.FIRING, Status.RESOLVED}


def evaluate(rule: Rule, state: AlertState | None, value: float | None, now_ms: int) -> Evaluation:
    """Take one alert one evaluation further.

    Args:
        rule: The rule; a change of its durations between evaluations is honoured at the next.
        state: What the last evaluation returned; ``None`` at first.
        value: The metric's value. ``None`` is a missing one: it ends a pending alert and
            leaves a firing one alone, since silence is no recovery.
        now_ms: The time of this evaluation by the caller's clock.

    Raises:
        InputError: The value is NaN.
    """
    if value is not None and math.isnan(value):
        message = f"The value of {rule.selector.metric} is not a number"
        raise InputError(message)
    seen = state or AlertState(Status.INACTIVE, now_ms)
    if seen.status not in _OPEN:
        seen = replace(seen, active_at_ms=now_ms)
    signal, clear_since_ms = _observe(rule, seen, value, now_ms)
    status = _NEXT[seen.status, signal]
    if status is not seen.status and status in _TOLD and value is not None:
        after = _enter(status, seen, now_ms)
        told = Transition(status, now_ms, seen.active_at_ms, after.episode, value)
        return Evaluation(after, signal, told)
    if status is seen.status and status not in _OPEN:
        return Evaluation(state, signal)
    is_new = status is Status.INACTIVE and seen.episode == 0
    after = replace(seen, status=status, clear_since_ms=clear_since_ms)
    return Evaluation(None if is_new else after, signal)


def _enter(status: Status, seen: AlertState, now_ms: int) -> AlertState:
    if status is Status.FIRING:
        return AlertState(status, seen.active_at_ms, seen.episode + 1, fired_at_ms=now_ms)
    return replace(seen, status=status, clear_since_ms=None, resolved_at_ms=now_ms)


def _observe(
    rule: Rule, seen: AlertState, value: float | None, now_ms: int
) -> tuple[Signal, int | None]:
    """Judge one value; the second part is since when a firing alert has been clear."""
    is_firing = seen.status is Status.FIRING
    if value is not None and rule.when.holds(value):
        has_held = is_firing or now_ms - seen.active_at_ms >= rule.for_ms
        return (Signal.HELD if has_held else Signal.WAITS), None
    if not is_firing:
        return Signal.CLEAR, None
    if value is None:
        return Signal.LINGERS, seen.clear_since_ms
    if rule.resolve is not None and not rule.resolve.holds(value):
        return Signal.LINGERS, None
    since_ms = now_ms if seen.clear_since_ms is None else seen.clear_since_ms
    is_over = now_ms - since_ms >= rule.keep_firing_ms
    return (Signal.CLEAR if is_over else Signal.LINGERS), since_ms
