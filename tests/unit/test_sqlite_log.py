"""Topics, rows and readers of the embedded broker, beyond the contract of all brokers."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.brokers import DEADLINE_S, numbered, read_all

from streamapp.core.batch import TP
from streamapp.errors import BrokerError, ConfigError, UnknownTopicError
from streamapp.transport.broker import OffsetRange, TopicSpec
from streamapp.transport.sqlite import SqliteBroker
from streamapp.transport.sqlite.bell import Bell, Bells

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamapp.transport.sqlite.reader import SqliteReader

P0 = TP("t", 0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(tmp_path / "bus")
    broker.create_topic(TopicSpec("t", 2))
    yield broker
    broker.close()


def sql(tmp_path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(tmp_path / "bus" / "bus.db")) as conn, conn:
        conn.execute(statement, values)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ü", "a b", "x" * 250, "t\n"])
def test_impossible_name_is_refused(broker: SqliteBroker, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        broker.create_topic(TopicSpec(name, 1))


@pytest.mark.parametrize(
    "spec",
    [
        TopicSpec("u", 0),
        TopicSpec("u", 1, frozenset()),
        TopicSpec("u", 1, frozenset({"delete", "shrink"})),
    ],
)
def test_impossible_settings_are_refused(broker: SqliteBroker, spec: TopicSpec) -> None:
    with pytest.raises(ConfigError):
        broker.create_topic(spec)


def test_longest_and_oddest_names_are_taken(broker: SqliteBroker) -> None:
    for name in ("x" * 249, "...", "-", "_A.z-9"):
        assert broker.create_topic(TopicSpec(name, 1)).spec.name == name


def test_topic_made_anew_is_another_and_starts_at_zero(
    tmp_path: Path, broker: SqliteBroker
) -> None:
    broker.append(numbered(P0, 3))
    first = broker.topics()["t"]
    other = SqliteBroker(tmp_path / "bus")
    other.delete_topic("t")
    with pytest.raises(UnknownTopicError):
        broker.append(numbered(P0, 1))
    again = other.create_topic(TopicSpec("t", 1))
    other.close()
    assert again.uid != first.uid
    assert broker.append(numbered(P0, 1)) == [0]
    with pytest.raises(UnknownTopicError, match="no partition 1"):
        broker.append(numbered(TP("t", 1), 1))
    with pytest.raises(UnknownTopicError):
        broker.delete_topic("absent")


def test_single_appends_are_read_as_one_batch(broker: SqliteBroker) -> None:
    for number in range(50):
        broker.append(numbered(P0, 1, first=number))
    with closing(broker.reader()) as reader:
        reader.assign({P0: 10})
        (batch,) = reader.poll(1, 30)
        assert list(batch.offsets) == list(range(10, 40))
        assert batch.next_offset == 40
        assert batch.values[0] == b"v10"


def test_position_of_a_seek_is_not_overtaken_by_decoded_records(broker: SqliteBroker) -> None:
    broker.append(numbered(P0, 100))
    with closing(broker.reader()) as reader:
        reader.assign({P0: 0})
        assert len(reader.poll(1, 10)[0]) == 10
        reader.assign({P0: 90})
        assert list(reader.poll(1, 10)[0].offsets) == list(range(90, 100))


def test_shares_of_a_poll_are_even_while_all_have_records(broker: SqliteBroker) -> None:
    broker.append([*numbered(P0, 500), *numbered(TP("t", 1), 500)])
    with closing(broker.reader()) as reader:
        reader.assign({P0: 0, TP("t", 1): 0})
        for _ in range(10):
            assert [len(batch) for batch in reader.poll(1, 100)] == [50, 50]


@pytest.mark.parametrize(
    "damage", ["data = substr(data, 1, 40)", "crc = crc + 1", "data = zeroblob(length(data))"]
)
def test_damaged_row_is_an_error_that_names_it(
    tmp_path: Path, broker: SqliteBroker, damage: str
) -> None:
    broker.append(numbered(P0, 5))
    broker.append(numbered(P0, 5))
    sql(tmp_path, f"UPDATE batch SET {damage} WHERE base = 5")  # noqa: S608  # from the list above
    with closing(broker.reader()) as reader:
        reader.assign({P0: 0})
        assert len(reader.poll(1, 5)[0]) == 5
        for _ in range(2):
            with pytest.raises(BrokerError, match=r"bus\.db: topic t partition 0 offset 5"):
                reader.poll(1, 5)


def test_what_is_whole_comes_before_the_error_of_what_is_damaged(
    tmp_path: Path, broker: SqliteBroker
) -> None:
    other = TP("t", 1)
    for first in (0, 5):
        broker.append([*numbered(P0, 5, first), *numbered(other, 5, first)])
    sql(tmp_path, "UPDATE batch SET crc = crc + 1 WHERE base = 5 AND p = 0")
    found: list[tuple[int, int]] = []

    def poll(reader: SqliteReader) -> None:
        for batch in reader.poll(1, 100):
            found.extend((batch.tp.partition, offset) for offset in batch.offsets)

    with closing(broker.reader()) as reader:
        reader.assign({P0: 0, other: 0})
        while len(found) < 15:
            poll(reader)
        with pytest.raises(BrokerError, match="partition 0 offset 5"):
            poll(reader)
    assert sorted(found) == [*((0, offset) for offset in range(5)), *((1, o) for o in range(10))]


def test_closed_broker_says_so(tmp_path: Path) -> None:
    broker = SqliteBroker(tmp_path)
    reader = broker.reader()
    broker.close()
    assert reader.poll(0, 1) == []
    for call in (
        broker.topics,
        broker.groups,
        broker.reader,
        lambda: broker.append(numbered(P0, 1)),
    ):
        with pytest.raises(BrokerError, match="closed"):
            call()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_stays_open_after_close(tmp_path: Path) -> None:
    SqliteBroker(tmp_path).close()
    before = open_files()
    broker = SqliteBroker(tmp_path)
    broker.create_topic(TopicSpec("t", 1))
    broker.reader().poll(0, 1)
    broker.join("g", ["t"]).poll(0, 1)
    broker.close()
    assert open_files() == before
    assert not list((tmp_path / "bells").iterdir())
    assert not list((tmp_path / "groups").glob("*.alive"))


def test_bell_of_a_dead_process_is_taken_down(tmp_path: Path) -> None:
    bells = Bells(tmp_path)
    dead, live = Bell(bells), Bell(bells)
    dead._bell.close()
    bells.ring()
    started = time.monotonic()
    assert not live.wait(DEADLINE_S)
    assert time.monotonic() - started < DEADLINE_S / 2
    assert len(list(tmp_path.iterdir())) == 1
    for one in (dead, live, bells):
        one.close()


def test_every_partition_has_its_turn_however_little_a_poll_takes(broker: SqliteBroker) -> None:
    both = [P0, TP("t", 1)]
    broker.append([one for tp in both for one in numbered(tp, 10)])
    with closing(broker.reader()) as reader:
        reader.assign(dict.fromkeys(both, 0))
        assert {reader.poll(1, 1)[0].tp for _ in range(2)} == set(both)


def poll_while(reader: SqliteReader, act: Callable[[], object]) -> int:
    """Poll without a limit worth the name while ``act`` happens; return the records found."""
    timer = threading.Timer(0.05, act)
    timer.start()
    started = time.monotonic()
    count = sum(map(len, reader.poll(DEADLINE_S, 100)))
    assert time.monotonic() - started < DEADLINE_S / 2
    timer.join()
    return count


def test_reader_finds_records_when_no_bell_rings(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bells, "ring", lambda *_: None)
    with closing(broker.reader()) as reader:
        reader.assign({P0: 0})
        assert poll_while(reader, lambda: broker.append(numbered(P0, 1))) == 1


def test_reader_is_rung_from_here_and_from_elsewhere(
    tmp_path: Path, broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamapp.transport.sqlite.bell._RUNG_S", 10 * DEADLINE_S)
    with closing(broker.reader()) as reader, closing(SqliteBroker(tmp_path / "bus")) as other:
        reader.assign({P0: 0})
        assert poll_while(reader, lambda: broker.append(numbered(P0, 1))) == 1
        assert poll_while(reader, lambda: other.append(numbered(P0, 2))) == 2
        assert poll_while(reader, lambda: reader.assign({P0: 0})) == 3


def test_bus_in_a_folder_with_a_long_name_has_bells(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / "bus"
    with closing(SqliteBroker(folder)) as broker, closing(broker.reader()):
        assert len(list((folder / "bells").iterdir())) == 1


def test_empty_partition_has_equal_ends(broker: SqliteBroker) -> None:
    assert broker.offsets([P0]) == {P0: OffsetRange(0, 0)}
    assert read_all(broker, P0) == []
