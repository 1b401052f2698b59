"""What an event loop may do on the embedded broker: small commits, and reading when it is rung."""

from __future__ import annotations

import select
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.brokers import DEADLINE_S, Worker, covers, drive, numbered

from streamapp.core.batch import TP, OutRecord
from streamapp.errors import FencedError, UnknownTopicError
from streamapp.transport.at_once import CommitsAtOnce, RingsLoop
from streamapp.transport.broker import Position, Revoking, TopicSpec
from streamapp.transport.sqlite import SqliteBroker
from streamapp.transport.sqlite.locks import FileLock
from streamapp.transport.sqlite.member import SqliteMember

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IN = [TP("in", p) for p in range(2)]
OUT = TP("out", 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(tmp_path / "bus")
    broker.create_topic(TopicSpec("in", 2))
    broker.create_topic(TopicSpec("out", 1))
    yield broker
    broker.close()


@pytest.fixture
def worker(broker: SqliteBroker) -> Worker:
    worker = Worker(broker.join("g", ["in"]))
    drive([worker], lambda: worker.owned == set(IN))
    return worker


@pytest.fixture
def member(worker: Worker) -> SqliteMember:
    member = worker.member
    assert isinstance(member, SqliteMember)
    assert isinstance(member, CommitsAtOnce)
    assert isinstance(member, RingsLoop)
    return member


def is_rung(bell: int | None, within_s: float = DEADLINE_S) -> bool:
    return bool(select.select([bell], [], [], within_s)[0])


# --- commits -----------------------------------------------------------------------------------


def test_commit_at_once_is_a_commit(broker: SqliteBroker, member: SqliteMember) -> None:
    assert member.commit(numbered(OUT, 2), {IN[0]: Position(1)}) == [0, 1]
    assert member.commit_at_once(numbered(OUT, 3), {IN[0]: Position(4, "note")}) == [2, 3, 4]
    assert broker.offsets([OUT])[OUT].end == 5
    assert broker.committed("g", IN) == {IN[0]: Position(4, "note")}


def test_commit_at_once_is_all_or_nothing(broker: SqliteBroker, member: SqliteMember) -> None:
    lost = OutRecord(TP("absent", 0), None, b"", 0)
    with pytest.raises(UnknownTopicError):
        member.commit_at_once([*numbered(OUT, 2), lost], {IN[0]: Position(1)})
    assert broker.offsets([OUT])[OUT].end == 0
    assert broker.committed("g", IN) == {}
    assert member.commit_at_once(numbered(OUT, 1), {}) == [0]


def test_fenced_at_once(broker: SqliteBroker, member: SqliteMember) -> None:
    other = Worker(broker.join("g", ["in"]))
    both = [Worker(member), other]
    drive(both, lambda: covers(both, IN) and bool(other.owned))
    with pytest.raises(FencedError):
        member.commit_at_once(numbered(OUT, 1), dict.fromkeys(IN, Position(1)))
    assert broker.offsets([OUT])[OUT].end == 0


def test_nobody_is_waited_for(broker: SqliteBroker, member: SqliteMember, tmp_path: Path) -> None:
    """Another process, a program that knows no lock of ours, or a change of the group."""
    commit = numbered(OUT, 1), {IN[0]: Position(1)}
    with closing(FileLock(tmp_path / "bus" / "write.lock")) as lock:
        lock.acquire()
        assert member.commit_at_once(*commit) is None
    with closing(sqlite3.connect(tmp_path / "bus" / "bus.db", isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        assert member.commit_at_once(*commit) is None
        foreign.execute("ROLLBACK")
    with member._lock:
        refused: list[object] = []
        thread = threading.Thread(target=lambda: refused.append(member.commit_at_once(*commit)))
        thread.start()
        thread.join()
        assert refused == [None]
    assert broker.committed("g", IN) == {}
    assert member.commit_at_once(*commit) == [0]


# --- reading -----------------------------------------------------------------------------------


def test_loop_is_rung_for_what_others_write(broker: SqliteBroker, member: SqliteMember) -> None:
    bell = member.hand_over()
    member.poll_nowait(0)
    broker.append(numbered(IN[1], 2))
    assert is_rung(bell)
    assert [(batch.tp, len(batch)) for batch in member.poll_nowait(10)] == [(IN[1], 2)]
    assert not is_rung(bell, 0)
    member.commit(numbered(OUT, 1), {IN[1]: Position(2)})
    assert not is_rung(bell, 0)


def test_loop_is_rung_until_all_is_read(broker: SqliteBroker, member: SqliteMember) -> None:
    bell = member.hand_over()
    broker.append([*numbered(IN[0], 7), *numbered(IN[1], 1)])
    read = 0
    while is_rung(bell, 0):
        read += sum(map(len, member.poll_nowait(2)))
    assert read == 8


def test_loop_is_rung_when_there_may_be_more(broker: SqliteBroker, member: SqliteMember) -> None:
    bell = member.hand_over()
    broker.append(numbered(IN[0], 2))
    member.pause(IN)
    assert member.poll_nowait(10) == []
    member.resume(IN)
    assert is_rung(bell)
    assert sum(map(len, member.poll_nowait(10))) == 2
    member.seek({IN[0]: 1})
    assert is_rung(bell)
    assert sum(map(len, member.poll_nowait(10))) == 1


def test_a_member_that_has_left_hands_nothing_over(member: SqliteMember) -> None:
    """A worker that is stopped while it starts may find it so."""
    member.leave()
    assert member.hand_over() is None


def test_thread_is_woken_for_changes_of_the_group(
    broker: SqliteBroker, member: SqliteMember
) -> None:
    """Only it may answer them, and it has no bell any more."""
    bell = member.hand_over()
    member.poll_nowait(0)
    member._bell.wait(0)
    broker.append(numbered(IN[0], 1))
    member.poll_nowait(1)
    assert not is_rung(member._bell._inner.fileno(), 0)
    other = broker.join("g", ["in"])
    assert is_rung(bell)
    member.poll_nowait(1)
    assert is_rung(member._bell._inner.fileno(), 0)
    assert member.poll(DEADLINE_S, 0) == [Revoking(frozenset(IN))]
    other.leave()
