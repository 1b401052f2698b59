"""The group's state machine: each decision, and whole groups under any interleaving.

The simulation takes the rows' part in memory. A look and the act that follows from it are separate
steps, between which others may do anything, as between processes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.core.batch import TP
from streamapp.transport.sqlite.coordination import (
    Act,
    Patience,
    Peer,
    Phase,
    Plan,
    Self,
    Sight,
    View,
    Watch,
    look,
    make_plan,
    next_step,
)

T = frozenset({"t"})
HOLDING = {Phase.OWNING, Phase.REVOKING}
PARTITIONS = {"t": (1, 4)}
A = Peer("a", "lock-a", T)
B = Peer("b", "lock-b", T)


def view_of(*peers: Peer, plan: Plan | None = None) -> View:
    return View({peer.id: peer for peer in peers}, plan or Plan(), PARTITIONS)


def plan_of(*peers: Peer, generation: int = 1) -> Plan:
    return replace(make_plan(view_of(*peers)), generation=generation)


def see(phase: Phase, view: View, generation: int = 1) -> Sight:
    return look(Self("a", "lock-a", phase, generation), view)


# --- what is seen ------------------------------------------------------------------------------


def test_first_member_may_publish_at_once() -> None:
    assert see(Phase.WAITING, view_of(A), generation=0) is Sight.COMPLETE


def test_plan_for_the_same_members_holds() -> None:
    assert see(Phase.OWNING, view_of(A, plan=plan_of(A))) is Sight.SETTLED


def test_newcomer_calls_for_a_plan_that_waits_for_the_owner() -> None:
    plan = plan_of(A)
    assert see(Phase.OWNING, view_of(A, B, plan=plan)) is Sight.OPEN
    released = replace(A, released=1)
    assert see(Phase.WAITING, view_of(released, B, plan=plan)) is Sight.COMPLETE


def test_other_subscription_calls_for_a_plan() -> None:
    other = replace(A, topics=frozenset({"t", "u"}))
    assert see(Phase.OWNING, view_of(other, plan=plan_of(A))) is Sight.OPEN


@pytest.mark.parametrize(
    "partitions", [{"t": (1, 5)}, {"t": (2, 4)}, {}, {**PARTITIONS, "u": (3, 1)}]
)
def test_other_topics_call_for_a_plan(partitions: dict[str, tuple[int, int]]) -> None:
    view = replace(view_of(A, plan=plan_of(A)), partitions=partitions)
    assert see(Phase.OWNING, view) is Sight.OPEN


def test_release_of_one_calls_for_a_plan_even_if_the_reason_is_gone() -> None:
    released = replace(B, released=1)
    assert see(Phase.OWNING, view_of(A, released, plan=plan_of(A, B))) is Sight.OPEN


def test_missing_row_and_row_of_another_incarnation() -> None:
    assert see(Phase.OWNING, view_of(B, plan=plan_of(A))) is Sight.MISSING
    assert see(Phase.OWNING, view_of(replace(A, lock="new"), plan=plan_of(A))) is Sight.MISSING


def test_newer_plan_names_overtakes_or_is_stale() -> None:
    plan = plan_of(A, generation=2)
    assert see(Phase.WAITING, view_of(A, plan=plan)) is Sight.NAMED
    assert see(Phase.WAITING, view_of(A, B, plan=plan)) is Sight.STALE
    assert see(Phase.OWNING, view_of(A, plan=plan)) is Sight.OVERTAKEN


def test_illegal_pair_is_no_step() -> None:
    with pytest.raises(KeyError):
        next_step(Phase.LEFT, Sight.NAMED)


def test_nothing_leads_out_of_left() -> None:
    for sight in (Sight.RELEASE, Sight.LEAVE):
        assert next_step(Phase.LEFT, sight) == (Act.STAY, Phase.LEFT)


# --- who is silent, who is late ----------------------------------------------------------------


def test_peer_without_a_beat_is_silent_after_the_time_out() -> None:
    watch = Watch(100)
    for now_ms in range(0, 101, 25):
        assert watch.silent([A, replace(B, beat=now_ms)], now_ms) == frozenset()
    assert watch.silent([A, replace(B, beat=101)], 101) == {"a"}


def test_new_incarnation_is_not_silent() -> None:
    watch = Watch(100)
    for now_ms in range(0, 101, 25):
        watch.silent([A], now_ms)
    assert watch.silent([replace(A, lock="new")], 110) == frozenset()


def test_watch_that_was_away_blames_nobody() -> None:
    watch = Watch(100)
    watch.silent([A], 0)
    assert watch.silent([A], 5_000) == frozenset()
    for now_ms in range(5_025, 5_101, 25):
        assert watch.silent([A], now_ms) == frozenset()
    assert watch.silent([A], 5_101) == {"a"}


def test_member_that_does_not_release_is_overdue() -> None:
    patience = Patience(100)
    me = Self("a", "lock-a", Phase.WAITING, 1)
    waiting = view_of(replace(A, released=1), B, plan=plan_of(A, B))
    assert patience.overdue(me, waiting, 0) == frozenset()
    assert patience.overdue(me, waiting, 100) == frozenset()
    assert patience.overdue(me, waiting, 101) == {"b"}


def test_patience_starts_anew_with_each_generation_and_only_while_waiting() -> None:
    patience = Patience(100)
    me = Self("a", "lock-a", Phase.WAITING, 1)
    first = view_of(replace(A, released=1), B, plan=plan_of(A, B))
    second = view_of(replace(A, released=2), B, plan=plan_of(A, B, generation=2))
    patience.overdue(me, first, 0)
    assert patience.overdue(me, second, 101) == frozenset()
    owning = Self("a", "lock-a", Phase.REVOKING, 2)
    assert patience.overdue(owning, second, 500) == frozenset()


# --- whole groups ------------------------------------------------------------------------------


@dataclass
class Actor:
    """A member with its rows' part taken by ``World``."""

    id: str
    phase: Phase = Phase.OUT
    lock: str = ""
    generation: int = 0
    owned: frozenset[TP] = frozenset()
    seen: tuple[Sight, View] | None = None
    is_alive: bool = True


@dataclass
class World:
    """The rows, and what members do with them."""

    peers: dict[str, Peer] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    fences: dict[str, tuple[str, int]] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    locks: int = 0
    partitions: dict[str, tuple[int, int]] = field(default_factory=lambda: dict(PARTITIONS))

    def add(self, name: str) -> None:
        if name not in self.actors:
            self.actors[name] = Actor(name)

    def join(self, actor: Actor) -> None:
        self.locks += 1
        actor.lock, actor.generation = f"lock-{self.locks}", self.plan.generation
        self.peers[actor.id] = Peer(actor.id, actor.lock, T, actor.generation)

    def evict(self, peer: Peer) -> None:
        if peer.id in self.fences and self.fences[peer.id][0] == peer.lock:
            del self.fences[peer.id]
        if peer.id in self.peers and self.peers[peer.id].lock == peer.lock:
            del self.peers[peer.id]

    def look(self, actor: Actor) -> None:
        for peer in list(self.peers.values()):
            if not self.actors[peer.id].is_alive:
                self.evict(peer)
        view = View(dict(self.peers), self.plan, dict(self.partitions))
        me = Self(actor.id, actor.lock, actor.phase, actor.generation)
        actor.seen = look(me, view), view

    def act(self, actor: Actor) -> None:
        if actor.seen is not None:
            (sight, view), actor.seen = actor.seen, None
            self.take(actor, sight, view)

    def release(self, actor: Actor) -> None:
        self.take(actor, Sight.RELEASE, View({}, self.plan, {}))
        actor.seen = None

    def leave(self, actor: Actor) -> None:
        self.take(actor, Sight.LEAVE, View({}, self.plan, {}))
        actor.is_alive = False

    def die(self, actor: Actor) -> None:
        actor.is_alive = False

    def hang(self, actor: Actor) -> None:
        """Evict a member that lives and does not know of it."""
        self.evict(Peer(actor.id, actor.lock, T))

    def take(self, actor: Actor, sight: Sight, view: View) -> None:
        step = next_step(actor.phase, sight)
        match step.act:
            case Act.JOIN:
                self.join(actor)
            case Act.ADOPT:
                actor.generation = view.plan.generation
                actor.owned = view.plan.owned[actor.id]
            case Act.LOSE:
                actor.owned = frozenset()
            case Act.YIELD:
                self.mark_released(actor, view)
            case Act.PUBLISH:
                self.publish(make_plan(view))
            case Act.DEPART:
                self.evict(Peer(actor.id, actor.lock, T))
        actor.phase = step.phase

    def mark_released(self, actor: Actor, view: View) -> None:
        if actor.phase is not Phase.REVOKING:
            actor.generation = view.plan.generation
        actor.owned = frozenset()
        mine = self.peers.get(actor.id)
        if mine is not None:
            self.peers[actor.id] = replace(mine, released=actor.generation)

    def publish(self, plan: Plan) -> None:
        if plan.generation == self.plan.generation + 1:
            self.plan = plan
            self.fences = {name: (lock, plan.generation) for name, lock in plan.locks.items()}

    def committers(self) -> list[Actor]:
        """Return those who could commit now, however dead they look to others."""
        return [
            actor
            for actor in self.actors.values()
            if actor.phase in HOLDING
            and self.fences.get(actor.id) == (actor.lock, actor.generation)
        ]

    def check(self) -> None:
        owners = Counter(tp for actor in self.committers() for tp in actor.owned)
        assert all(count == 1 for count in owners.values()), owners
        assert len({actor.generation for actor in self.committers()}) <= 1

    def settle(self) -> None:
        for _ in range(30):
            for actor in self.actors.values():
                if actor.is_alive:
                    self.look(actor)
                    self.act(actor)
                    self.check()
                    if actor.phase is Phase.REVOKING:
                        self.release(actor)


steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(
            ["look", "act", "look", "act", "release", "add", "die", "leave", "evict", "topic"]
        ),
    ),
    max_size=60,
)


@given(steps)
def test_any_history_keeps_owners_disjoint_and_ends_in_a_full_cover(
    steps: list[tuple[str, str]],
) -> None:
    world = World()
    world.add("a")
    for name, what in steps:
        apply(world, name, what)
        world.check()
    world.settle()
    live = [actor for actor in world.actors.values() if actor.is_alive]
    if live:
        assert {actor.phase for actor in live} == {Phase.OWNING}
        assert {actor.generation for actor in live} == {world.plan.generation}
        owned = sorted(tp for actor in world.committers() for tp in actor.owned)
        assert owned == [TP("t", p) for p in range(world.partitions["t"][1])]
        generation = world.plan.generation
        world.settle()
        assert world.plan.generation == generation


def apply(world: World, name: str, what: str) -> None:
    if what == "add":
        world.add(name)
    elif what == "topic":
        tid, count = world.partitions["t"]
        world.partitions["t"] = (tid + 1, count % 5 + 1)
    elif name in world.actors and world.actors[name].is_alive:
        {
            "die": world.die,
            "evict": world.hang,
            "leave": world.leave,
            "release": world.release,
            "look": world.look,
            "act": world.act,
        }[what](world.actors[name])
