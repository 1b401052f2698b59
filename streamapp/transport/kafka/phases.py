"""Where a member stands in its group, and what may happen to it there."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Where a member stands in its group."""

    OUT = auto()
    OWNING = auto()
    REVOKING = auto()
    LEFT = auto()


class Step(Enum):
    """What happens to it."""

    ASSIGN = auto()
    REVOKE = auto()
    RELEASE = auto()
    LOSE = auto()
    LEAVE = auto()


#: Which phase follows when a step happens; other pairs are bugs of ours.
NEXT = {
    (Phase.OUT, Step.ASSIGN): Phase.OWNING,
    (Phase.OUT, Step.LOSE): Phase.OUT,
    (Phase.OWNING, Step.ASSIGN): Phase.OWNING,
    (Phase.OWNING, Step.REVOKE): Phase.REVOKING,
    (Phase.OWNING, Step.LOSE): Phase.OUT,
    (Phase.REVOKING, Step.RELEASE): Phase.OUT,
    (Phase.REVOKING, Step.LOSE): Phase.OUT,
    **{(phase, Step.LEAVE): Phase.LEFT for phase in Phase},
}
#: Phases in which a commit may still come.
OWNERS = frozenset({Phase.OWNING, Phase.REVOKING})
