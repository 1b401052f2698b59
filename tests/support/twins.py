"""A table that is written in a way of its own, beside one that is written record by record."""

from __future__ import annotations

from typing import Any

from support.tables import TableBench

from streamapp.state.scope import EventScope, Instant, Outcome, current_scope


class Twins:
    """A table written by columns, and one written by the same records one by one."""

    def __init__(self, **spec: Any) -> None:
        self.ours, self.single = (TableBench(cache_bytes=2_000, **spec) for _ in range(2))

    def event(self, work: Any, *, tracked: bool) -> None:
        """Run the work as an event over the table that columns write; maybe a parked one."""
        scope = EventScope(tracks_always=tracked)
        scope.enter(Instant(0), 0, 1)
        token = current_scope.set(scope)
        try:
            work(self.ours.table)
        except Exception:
            scope.undo()
            raise
        else:
            assert scope.finish() is Outcome.DONE
        finally:
            scope.let_go()
            current_scope.reset(token)

    def between(self, what: str) -> None:
        """Let a commit, a flush or a new start come between two events."""
        if what == "cut":
            self.ours.cut()
        elif what == "reopen":
            self.ours.reopen()
        elif what == "rotate":
            self.ours.budget._rotate()

    def assert_same(self) -> None:
        ours, single = (repr([*bench.table.items()]) for bench in (self.ours, self.single))
        assert ours == single
