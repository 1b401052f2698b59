"""Mistakes that would break whole events, each as a small change of the real classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamapp.engine.work import Window
from streamapp.state.rows import RowCodec
from streamapp.state.scope import EventScope, Outcome
from streamapp.state.shard import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import pytest


def _reads_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shard, "has", lambda *_: True)


def _scans_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    real = EventScope.watch

    def watch(scope: EventScope, shard: Shard) -> dict[Hashable, object]:
        unapplied = real(scope, shard)
        scope._seen.clear()
        return unapplied

    patch.setattr(EventScope, "watch", watch)


def _values_of_other_types_are_equal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RowCodec, "is_same", lambda _, one, other: one == other)


def _parking_leaves_rows_behind(patch: pytest.MonkeyPatch) -> None:
    real = EventScope._park

    def park(scope: EventScope) -> None:
        written = [(shard, key, shard.live[key]) for shard, key, *_ in scope.undo_list]
        real(scope)
        for shard, key, value in written:
            shard.write(key, value)

    patch.setattr(EventScope, "_park", park)


def _parking_forgets_what_was_read(patch: pytest.MonkeyPatch) -> None:
    real = EventScope._park

    def park(scope: EventScope) -> None:
        real(scope)
        scope._seen.clear()

    patch.setattr(EventScope, "_park", park)


def _undo_forgets_what_was_dirty(patch: pytest.MonkeyPatch) -> None:
    real = Shard.restore

    def restore(shard: Shard, key: Hashable, before: object, **_: bool) -> None:
        real(shard, key, before, was_dirty=False)

    patch.setattr(Shard, "restore", restore)


def _undo_keeps_rows_dirty(patch: pytest.MonkeyPatch) -> None:
    real = Shard.restore

    def restore(shard: Shard, key: Hashable, before: object, **_: bool) -> None:
        real(shard, key, before, was_dirty=True)

    patch.setattr(Shard, "restore", restore)


def _undo_keeps_outputs(patch: pytest.MonkeyPatch) -> None:
    real = EventScope.undo

    def undo(scope: EventScope) -> None:
        outputs = list(scope.outputs)
        real(scope)
        scope.outputs.extend(outputs)

    patch.setattr(EventScope, "undo", undo)


def _undo_runs_forward(patch: pytest.MonkeyPatch) -> None:
    real = EventScope.undo

    def undo(scope: EventScope) -> None:
        scope.undo_list.reverse()
        real(scope)

    patch.setattr(EventScope, "undo", undo)


def _cut_takes_the_event_in_hand(patch: pytest.MonkeyPatch) -> None:
    real = Shard.take

    def take(shard: Shard) -> dict[bytes, bytes | None]:
        patch_owner, shard.owner = shard.owner, None
        try:
            return real(shard)
        finally:
            shard.owner = patch_owner

    patch.setattr(Shard, "take", take)


def _cut_forgets_the_event_in_hand(patch: pytest.MonkeyPatch) -> None:
    real = Shard.take

    def take(shard: Shard) -> dict[bytes, bytes | None]:
        changes = real(shard)
        shard.dirty.clear()
        return changes

    patch.setattr(Shard, "take", take)


def _taken_rows_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    real = Shard.take

    def take(shard: Shard) -> dict[bytes, bytes | None]:
        changes = real(shard)
        shard.pending.clear()
        return changes

    patch.setattr(Shard, "take", take)


def _rotation_keeps_unfinished_rows(patch: pytest.MonkeyPatch) -> None:
    real = Shard.rotate

    def rotate(shard: Shard) -> int:
        live = dict(shard.live)
        size = real(shard)
        shard.old = live
        return size

    patch.setattr(Shard, "rotate", rotate)


def _rotation_drops_dirty_rows(patch: pytest.MonkeyPatch) -> None:
    def rotate(shard: Shard) -> int:
        shard.old, shard.live = {}, {}
        shard.dirty.clear()
        return 0

    patch.setattr(Shard, "rotate", rotate)


def _slots_retire_out_of_order(patch: pytest.MonkeyPatch) -> None:
    real = Window.retire

    def retire(window: Window) -> Any:
        slots = sorted(window.slots, key=lambda slot: not slot.is_finished)
        window.slots.clear()
        window.slots.extend(slots)
        return real(window)

    patch.setattr(Window, "retire", retire)


def _conflicts_are_ignored(patch: pytest.MonkeyPatch) -> None:
    real = EventScope.finish

    def finish(scope: EventScope) -> Outcome:
        real(scope)
        return Outcome.DONE

    patch.setattr(EventScope, "finish", finish)


def _shards_are_not_handed_over(patch: pytest.MonkeyPatch) -> None:
    def leave(scope: EventScope, shard: Shard) -> None:
        shard.owner = None
        scope.held.remove(shard)

    patch.setattr(EventScope, "yield_to_other", leave)


#: Name of the mistake -> the function that makes it.
MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    mutant.__name__.strip("_").replace("_", " "): mutant
    for mutant in (
        _reads_are_not_checked,
        _scans_are_not_checked,
        _values_of_other_types_are_equal,
        _parking_leaves_rows_behind,
        _parking_forgets_what_was_read,
        _undo_forgets_what_was_dirty,
        _undo_keeps_rows_dirty,
        _undo_keeps_outputs,
        _undo_runs_forward,
        _cut_takes_the_event_in_hand,
        _cut_forgets_the_event_in_hand,
        _taken_rows_are_not_kept,
        _rotation_keeps_unfinished_rows,
        _rotation_drops_dirty_rows,
        _slots_retire_out_of_order,
        _conflicts_are_ignored,
        _shards_are_not_handed_over,
    )
}
