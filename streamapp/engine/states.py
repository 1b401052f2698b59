"""What an engine may be doing, and what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class EngineState(StrEnum):
    """As /readyz, the API and the logs say it."""

    STARTING = "starting"
    JOINING = "joining"
    RESTORING = "restoring"
    RUNNING = "running"
    DRAINING = "draining"
    REBUILDING = "rebuilding"
    STOPPED = "stopped"


_S = EngineState

#: The states that may follow each state.
NEXT: Final[dict[EngineState, frozenset[EngineState]]] = {
    _S.STARTING: frozenset({_S.JOINING, _S.STOPPED}),
    _S.JOINING: frozenset({_S.RESTORING, _S.DRAINING, _S.REBUILDING, _S.JOINING, _S.STOPPED}),
    _S.RESTORING: frozenset(
        {_S.RUNNING, _S.DRAINING, _S.JOINING, _S.REBUILDING, _S.RESTORING, _S.STOPPED}
    ),
    _S.RUNNING: frozenset({_S.DRAINING, _S.JOINING, _S.REBUILDING, _S.RESTORING, _S.STOPPED}),
    _S.DRAINING: frozenset({_S.JOINING, _S.REBUILDING, _S.STOPPED}),
    _S.REBUILDING: frozenset({_S.RESTORING, _S.JOINING, _S.STOPPED}),
    _S.STOPPED: frozenset(),
}


def follow(state: EngineState, to: EngineState) -> EngineState:
    """Return ``to``.

    Raises:
        AssertionError: The step is not in the table: a bug of ours.
    """
    if to not in NEXT[state]:
        msg = f"engine cannot go from {state} to {to}"
        raise AssertionError(msg)
    return to
