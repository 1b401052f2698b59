"""Whole events or nothing: whatever the interleaving, state is that of finished events in order."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from support.interleaving import KEYS, History, World, histories, random_history, run_history

from streamapp.state.scope import EventScope, Outcome, current_scope
from streamapp.state.shard import Shard


@given(histories())
def test_any_interleaving_equals_the_finished_events_in_order(history: History) -> None:
    run_history(history)


@pytest.mark.parametrize("start", range(0, 1_000, 250))
def test_many_more_interleavings_meet_often_and_agree(start: int) -> None:
    worlds = [run_history(random_history(Random(seed))) for seed in range(start, start + 250)]
    assert sum(world.conflicts for world in worlds) > 50


# --- cases that chance finds too seldom ----------------------------------------------------------


class _Meeting:
    """Scopes over one shard of a world without agents."""

    def __init__(self) -> None:
        self.world = World([], 1 << 20)
        self.table = self.world.tables[0]

    def scope(self, *, tracks_always: bool = False) -> EventScope:
        scope = EventScope(tracks_always=tracks_always)
        scope.partition, scope.partitions = 0, 1
        return scope

    def set(self, scope: EventScope, key: object, value: object) -> None:
        token = current_scope.set(scope)
        self.table[key] = value
        current_scope.reset(token)

    def get(self, scope: EventScope, key: object) -> object:
        token = current_scope.set(scope)
        value = self.table.get(key)
        current_scope.reset(token)
        return value

    def write(self, key: object, value: object) -> None:
        """Write in an event of its own."""
        scope = self.scope()
        self.set(scope, key, value)
        assert scope.finish() is Outcome.DONE

    @property
    def shard(self) -> Shard:
        return self.table.shards[0]


def test_row_that_changes_and_changes_back_is_read_as_it_was_first() -> None:
    meeting = _Meeting()
    meeting.write("k", 1)
    reader = meeting.scope(tracks_always=True)
    seen = [meeting.get(reader, "k")]
    meeting.write("k", 2)
    seen.append(meeting.get(reader, "k"))
    meeting.write("k", 1)
    assert seen == [1, 1]
    assert reader.finish() is Outcome.DONE


@pytest.mark.parametrize("other", [True, 1.0])
def test_change_to_an_equal_value_of_another_type_is_a_conflict(other: object) -> None:
    meeting = _Meeting()
    meeting.write("k", 1)
    reader = meeting.scope(tracks_always=True)
    meeting.get(reader, "k")
    meeting.write("k", other)
    assert reader.finish() is Outcome.CONFLICT


def test_parked_event_finishes_if_nobody_wrote_what_it_used() -> None:
    meeting = _Meeting()
    first, second = meeting.scope(), meeting.scope()
    meeting.set(first, "a", 1)
    assert meeting.get(second, "a") is None
    assert second.finish() is Outcome.DONE
    assert first.finish() is Outcome.DONE
    assert meeting.get(second, "a") == 1


def test_scope_that_has_finished_hands_its_shard_over_without_being_tracked() -> None:
    meeting = _Meeting()
    first, second = meeting.scope(), meeting.scope()
    for scope in (first, second, first):
        meeting.set(scope, "a", 1)
        assert scope.finish() is Outcome.DONE
    assert not first.tracked
    assert not second.tracked


@pytest.mark.parametrize("cache_bytes", [1 << 20, 600])
def test_undo_leaves_no_trace(cache_bytes: int) -> None:
    meeting = _Meeting()
    meeting.world.budget.limit_bytes = cache_bytes
    meeting.write("a", 1)
    meeting.world.tables[0].shards[0].take()
    meeting.write(1, "x")
    dirty = set(meeting.shard.dirty)
    scope = meeting.scope()
    for key in KEYS:
        for value in (2, [3], None):
            meeting.set(scope, key, value)
    scope.undo()
    assert meeting.shard.dirty == dirty
    reader = meeting.scope()
    assert [meeting.get(reader, key) for key in KEYS] == [1, "x", None]
