"""The account of what is synced: never more than is, and never less for long."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from support.brokers import numbered

from streamapp.core.batch import TP
from streamapp.errors import BrokerUnavailableError
from streamapp.transport.broker import TopicSpec
from streamapp.transport.sqlite import SqliteBroker, SqliteOptions
from streamapp.transport.sqlite.syncing import Syncs

if TYPE_CHECKING:
    from pathlib import Path

P0 = TP("t", 0)


@pytest.fixture
def syncs(tmp_path: Path) -> Syncs:
    (tmp_path / "log").touch()
    return Syncs(tmp_path / "account", tmp_path / "log")


def account(path: Path) -> tuple[int, ...]:
    data = path.read_bytes()
    return tuple(int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))


def test_one_sync_serves_all_commits_before_it(tmp_path: Path, syncs: Syncs) -> None:
    with syncs.commit() as first:
        pass
    with syncs.commit() as second:
        pass
    assert account(tmp_path / "account") == (2, 2, 0)
    syncs.settle(second)
    assert account(tmp_path / "account") == (2, 2, 2)
    (tmp_path / "log").unlink()
    # It would fail if it synced.
    syncs.settle(first)
    syncs.settle()


def test_a_commit_that_ends_after_the_sync_is_not_counted(tmp_path: Path, syncs: Syncs) -> None:
    other = Syncs(tmp_path / "account", tmp_path / "log")
    with syncs.commit() as number:
        other.settle()
        assert account(tmp_path / "account") == (1, 0, 0)
    syncs.settle(number)
    assert account(tmp_path / "account") == (1, 1, 1)


def test_a_commit_that_was_given_up_ends_too(tmp_path: Path, syncs: Syncs) -> None:
    with pytest.raises(ZeroDivisionError), syncs.commit():
        raise ZeroDivisionError
    syncs.settle()
    assert account(tmp_path / "account") == (1, 1, 1)


def test_a_copied_account_is_not_believed(tmp_path: Path, syncs: Syncs) -> None:
    with syncs.commit():
        pass
    syncs.settle()
    Syncs(tmp_path / "account", tmp_path / "log")
    assert account(tmp_path / "account") == (1, 1, 0)


def test_what_append_has_written_is_synced(tmp_path: Path) -> None:
    with closing(SqliteBroker(tmp_path)) as broker:
        broker.create_topic(TopicSpec("t", 1))
        broker.append(numbered(P0, 3))
        begun, ended, synced = account(tmp_path / "synced")
        assert begun == ended == synced > 1


def test_a_reader_syncs_what_its_writer_did_not(tmp_path: Path) -> None:
    with (
        closing(SqliteBroker(tmp_path)) as broker,
        closing(SqliteBroker(tmp_path, SqliteOptions(sync="normal"))) as lazy,
    ):
        broker.create_topic(TopicSpec("t", 1))
        lazy.append(numbered(P0, 3))
        _, ended, synced = account(tmp_path / "synced")
        assert synced < ended
        reader = broker.reader()
        reader.assign({P0: 0})
        assert len(reader.poll(1.0, 10)[0]) == 3
        assert account(tmp_path / "synced")[2] == ended


def test_what_cannot_be_synced_is_not_read_but_later(tmp_path: Path) -> None:
    with (
        closing(SqliteBroker(tmp_path, SqliteOptions(sync="normal"))) as lazy,
        closing(SqliteBroker(tmp_path)) as broker,
    ):
        lazy.create_topic(TopicSpec("t", 1))
        lazy.append(numbered(P0, 3))
        reader = broker.reader()
        reader.assign({P0: 0})
        log = tmp_path / "bus.db-wal"
        os.link(log, tmp_path / "kept")
        log.unlink()
        with pytest.raises(BrokerUnavailableError, match="synced"):
            reader.poll(1.0, 2)
        assert reader.positions() == {P0: 0}
        (tmp_path / "kept").rename(log)
        assert list(reader.poll(1.0, 10)[0].offsets) == [0, 1, 2]
