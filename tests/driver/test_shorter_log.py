"""A topic whose log ends before the position of the group: made anew, or without its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.engine_app import Bench, counting, running, until

from streamapp.core.batch import TP
from streamapp.transport.broker import Position

if TYPE_CHECKING:
    import pytest

IN = TP("in", 0)


def commit(bench: Bench, position: Position) -> None:
    """Write a position in the name of the group."""
    member = bench.broker.join("bench", ["in"])
    member.poll(1, 1)
    member.seek({IN: 0})
    member.commit([], {IN: position})
    member.leave()


async def test_what_comes_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    async with running(counting(bench)):
        bench.send("in", b"1", b"1")
        await until(lambda: bench.position("in") == 2)
    commit(bench, Position(9))
    async with running(counting(bench)) as app:
        bench.send("in", b"1")
        await until(lambda: bench.position("in") == 3)
        assert app.tables["counts"]["all"] == 3
    assert "in/0 ends at 2, before our position 9" in caplog.text
