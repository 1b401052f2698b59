"""How a group agrees: what a member does next, given the rows that all members see. Pure.

There is no coordinator: every member looks at the same rows and takes its own step. The rows are
the members (``Peer``) and the last published ``Plan``. A group is settled while the plan was made
for exactly the members, subscriptions and partitions that are there now. Otherwise each owner
revokes and releases, and whoever first sees that all have publishes the next plan, by a
compare-and-set on the generation; so two publishers at once, or one that dies in the middle, leave
one plan or the old one, never half of one, and nobody waits for a leader.

Invariant: generation ``g + 1`` is published only after every member of ``g`` released it or was
evicted, and the evicted ones cannot commit once it is published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from streamapp.transport.assignment import assign_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamapp.core.batch import TP


class Phase(Enum):
    """Where a member stands."""

    WAITING = auto()  # in the group, owns nothing
    OWNING = auto()  # reads its partitions
    REVOKING = auto()  # the engine was asked to commit and let go
    OUT = auto()  # not in the group yet, or thrown out: it joins at the next poll
    LEFT = auto()  # gone, for good


class Sight(Enum):
    """What a member sees in the rows, or is told by its engine."""

    MISSING = auto()  # my row is gone: I was evicted
    OVERTAKEN = auto()  # a newer plan was published although I own partitions
    NAMED = auto()  # a newer plan names me, and it still holds
    STALE = auto()  # a newer plan names me, but it needs replacing already
    SETTLED = auto()  # the plan holds
    OPEN = auto()  # a new plan is needed, but somebody has yet to release this one
    COMPLETE = auto()  # a new plan is needed, and everybody has released this one
    RELEASE = auto()  # the engine has let go
    LEAVE = auto()  # the engine leaves


class Act(Enum):
    """What the member does about it."""

    STAY = auto()
    JOIN = auto()  # write a new row
    LOSE = auto()  # tell the engine that everything is lost
    ADOPT = auto()  # take over the partitions of the plan
    YIELD = auto()  # write that this generation is released
    REVOKE = auto()  # ask the engine to let go
    PUBLISH = auto()  # make and publish the next plan
    DEPART = auto()  # remove the row


class Step(NamedTuple):
    """An act, and the phase after it."""

    act: Act
    phase: Phase


_STAY, _P, _S = Act.STAY, Phase, Sight
_NEXT: dict[tuple[Phase, Sight], Step] = {
    (_P.WAITING, _S.MISSING): Step(Act.JOIN, _P.WAITING),
    (_P.WAITING, _S.NAMED): Step(Act.ADOPT, _P.OWNING),
    (_P.WAITING, _S.STALE): Step(Act.YIELD, _P.WAITING),
    (_P.WAITING, _S.SETTLED): Step(_STAY, _P.WAITING),
    (_P.WAITING, _S.OPEN): Step(_STAY, _P.WAITING),
    (_P.WAITING, _S.COMPLETE): Step(Act.PUBLISH, _P.WAITING),
    (_P.WAITING, _S.RELEASE): Step(_STAY, _P.WAITING),
    (_P.OWNING, _S.MISSING): Step(Act.LOSE, _P.OUT),
    (_P.OWNING, _S.OVERTAKEN): Step(Act.LOSE, _P.OUT),
    (_P.OWNING, _S.SETTLED): Step(_STAY, _P.OWNING),
    (_P.OWNING, _S.OPEN): Step(Act.REVOKE, _P.REVOKING),
    # The engine answers a Revoking that a Lost has overtaken: nothing to release any more.
    (_P.OWNING, _S.RELEASE): Step(_STAY, _P.OWNING),
    (_P.REVOKING, _S.MISSING): Step(Act.LOSE, _P.OUT),
    (_P.REVOKING, _S.OVERTAKEN): Step(Act.LOSE, _P.OUT),
    (_P.REVOKING, _S.SETTLED): Step(_STAY, _P.REVOKING),
    (_P.REVOKING, _S.OPEN): Step(_STAY, _P.REVOKING),
    (_P.REVOKING, _S.RELEASE): Step(Act.YIELD, _P.WAITING),
    (_P.OUT, _S.MISSING): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.NAMED): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.STALE): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.SETTLED): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.OPEN): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.COMPLETE): Step(Act.JOIN, _P.WAITING),
    (_P.OUT, _S.RELEASE): Step(_STAY, _P.OUT),
    (_P.LEFT, _S.RELEASE): Step(_STAY, _P.LEFT),
    (_P.LEFT, _S.LEAVE): Step(_STAY, _P.LEFT),
    **{(phase, _S.LEAVE): Step(Act.DEPART, _P.LEFT) for phase in _P if phase is not _P.LEFT},
}
_HOLDING = frozenset({Phase.OWNING, Phase.REVOKING})


@dataclass(frozen=True, slots=True)
class Peer:
    """A member's row. ``lock`` names the file whose lock it holds, another one at each (re)join.

    ``released`` is the latest generation of which it owns nothing any more. ``beat`` changes as
    long as its poll is called.
    """

    id: str
    lock: str
    topics: frozenset[str]
    released: int = 0
    beat: int = 0
    url: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A published assignment and what it was made for.

    ``partitions`` maps each topic to its number in the catalogue and its partition count, so that a
    topic made anew calls for a new plan; ``locks`` names the incarnation of each owner.
    Generation 0 is the empty plan of a new group.
    """

    generation: int = 0
    topics: Mapping[str, frozenset[str]] = field(default_factory=dict)
    locks: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    owned: Mapping[str, frozenset[TP]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What one member sees at one moment: the others, itself, the plan, the topics there are."""

    peers: Mapping[str, Peer]
    plan: Plan
    partitions: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Self:
    """The member itself: ``generation`` is the one that it owns, or had seen when it joined."""

    id: str
    lock: str
    phase: Phase
    generation: int


def next_step(phase: Phase, sight: Sight) -> Step:
    """Look up the step in the table.

    Raises:
        KeyError: The pair cannot occur; a bug of ours.
    """
    return _NEXT[phase, sight]


def look(me: Self, view: View) -> Sight:
    """Reduce the rows to what matters to this member."""
    mine = view.peers.get(me.id)
    if mine is None or mine.lock != me.lock:
        return Sight.MISSING
    is_settled = _is_settled(view)
    if view.plan.generation > me.generation:
        if me.phase in _HOLDING:
            return Sight.OVERTAKEN
        if me.id in view.plan.owned and mine.released < view.plan.generation:
            return Sight.NAMED if is_settled else Sight.STALE
    if is_settled:
        return Sight.SETTLED
    return Sight.OPEN if _unready(view) else Sight.COMPLETE


def make_plan(view: View) -> Plan:
    """Return the next plan for what is seen."""
    topics = {peer.id: peer.topics for peer in view.peers.values()}
    counts = {topic: count for topic, (_, count) in view.partitions.items()}
    locks = {peer.id: peer.lock for peer in view.peers.values()}
    owned = assign_ranges(topics, counts)
    return Plan(view.plan.generation + 1, topics, locks, view.partitions, owned)


def _unready(view: View) -> frozenset[str]:
    """Return the members that have yet to release the plan; empty while it holds."""
    if _is_settled(view):
        return frozenset()
    return frozenset(p.id for p in view.peers.values() if not _is_ready(p, view.plan))


def _is_ready(peer: Peer, plan: Plan) -> bool:
    return peer.id not in plan.owned or peer.released >= plan.generation


def _is_settled(view: View) -> bool:
    plan = view.plan
    return (
        plan.topics == {peer.id: peer.topics for peer in view.peers.values()}
        and plan.partitions == view.partitions
        and not any(
            peer.id in plan.owned and peer.released >= plan.generation
            for peer in view.peers.values()
        )
    )


class Watch:
    """Tells which peers fell silent, by this member's own clock only.

    A beat is only compared with the one before, so clocks that jump evict nobody.
    """

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._seen: dict[str, tuple[str, int, int]] = {}
        self._looked_ms: int | None = None

    def silent(self, peers: Iterable[Peer], now_ms: int) -> frozenset[str]:
        """Return the peers without a beat for longer than the time-out.

        ``now_ms`` is monotonic. After a pause of its own the watch starts anew: what it remembers
        then tells of its own absence, not of theirs.
        """
        if self._looked_ms is not None and now_ms - self._looked_ms > self._timeout_ms // 2:
            self._seen.clear()
        self._looked_ms = now_ms
        before, self._seen = self._seen, {}
        for peer in peers:
            have = before.get(peer.id)
            is_same = have is not None and have[:2] == (peer.lock, peer.beat)
            self._seen[peer.id] = have if have and is_same else (peer.lock, peer.beat, now_ms)
        return frozenset(
            peer for peer, (*_, since) in self._seen.items() if now_ms - since > self._timeout_ms
        )


class Patience:
    """Tells which members kept the others waiting for too long, while this one waits too."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._generation = -1
        self._since_ms = 0

    def overdue(self, me: Self, view: View, now_ms: int) -> frozenset[str]:
        """Return the members that did not release within the time-out; ``now_ms`` is monotonic."""
        late = _unready(view) - {me.id} if me.phase is Phase.WAITING else frozenset()
        if not late or view.plan.generation != self._generation:
            self._generation, self._since_ms = view.plan.generation, now_ms
        return late if now_ms - self._since_ms > self._timeout_ms else frozenset()
