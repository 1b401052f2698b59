"""Retention and compaction: what goes, what stays, and that readers never notice."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.brokers import numbered, read_all, record

from streamapp.core.batch import TP, OutRecord, RecordBatch
from streamapp.transport.broker import OffsetRange, TopicSpec
from streamapp.transport.sqlite import SqliteBroker, SqliteOptions
from streamapp.transport.sqlite.log import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

P0 = TP("t", 0)
FAR_MS = 10**15
COMPACT = frozenset({"compact"})


@contextmanager
def broker_with(spec: TopicSpec, folder: Path) -> Iterator[SqliteBroker]:
    with closing(SqliteBroker(folder, SqliteOptions(sync="normal"))) as broker:
        broker.create_topic(spec)
        yield broker


def batches_of(broker: SqliteBroker, tp: TP, offset: int = 0) -> list[RecordBatch]:
    with closing(broker.reader()) as reader:
        reader.assign({tp: offset})
        batches: list[RecordBatch] = []
        while found := reader.poll(0, 10_000):
            batches += found
        return batches


def latest(batches: list[RecordBatch]) -> dict[bytes | None, bytes]:
    """Return the table that a reader of everything ends with."""
    table: dict[bytes | None, bytes] = {}
    for batch in batches:
        for key, value in zip(batch.keys, batch.values, strict=True):
            table.pop(key, None)
            if value is not None:
                table[key] = value
    return table


# --- retention ---------------------------------------------------------------------------------


def test_rows_older_than_the_retention_go_but_never_the_last(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, retention_ms=1_000), tmp_path) as broker:
        for first in range(0, 30, 10):
            broker.append(numbered(P0, 10, first))
        assert broker.clean().rows == 0
        assert broker.clean(FAR_MS).rows == 2
        assert broker.offsets([P0]) == {P0: OffsetRange(20, 30)}
        assert [offset for offset, _ in read_all(broker, P0)] == list(range(20, 30))
        assert broker.clean(FAR_MS).rows == 0
        assert broker.append(numbered(P0, 1)) == [30]


def test_rows_beyond_the_bytes_go_and_the_rest_fits(tmp_path: Path) -> None:
    spec = TopicSpec("t", 2, retention_ms=None, retention_bytes=5_000)
    with broker_with(spec, tmp_path) as broker:
        other = TP("t", 1)
        broker.append(numbered(other, 1))
        for _ in range(600):
            broker.append([record(P0, b"k", b"x" * 100)])
        assert broker.clean().rows > 500
        earliest, end = broker.offsets([P0])[P0]
        assert end == 600
        assert 5_000 - 200 <= (end - earliest) * 122 <= 5_000
        assert broker.offsets([other])[other] == OffsetRange(0, 1)


def test_topic_without_bounds_or_without_delete_is_left_alone(tmp_path: Path) -> None:
    unbounded = TopicSpec("t", 1, retention_ms=None, retention_bytes=None)
    with broker_with(unbounded, tmp_path) as broker:
        broker.create_topic(TopicSpec("c", 1, COMPACT, 1, 1))
        for tp in (P0, TP("c", 0)):
            broker.append(numbered(tp, 10))
            broker.append(numbered(tp, 10, 10))
        assert broker.clean(FAR_MS).rows == 0


def test_member_below_the_earliest_offset_is_moved_up(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, retention_ms=1_000), tmp_path) as broker:
        broker.append(numbered(P0, 10))
        broker.append(numbered(P0, 10, 10))
        with closing(broker.reader()) as reader:
            reader.assign({P0: 0})
            assert len(reader.poll(0, 3)[0]) == 3
            broker.clean(FAR_MS)
            assert list(reader.poll(0, 3)[0].offsets) == [10, 11, 12]


# --- compaction --------------------------------------------------------------------------------

keys = st.sampled_from([b"a", b"b", b"c", b"d", None])
values = st.none() | st.sampled_from([b"1", b"2", b"3"])
headers = st.sampled_from([(), (("h", b"x"),)])
appends = st.lists(
    st.lists(st.tuples(keys, values, headers), min_size=1, max_size=8), min_size=1, max_size=12
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteBroker]:
    """Make one bus for all examples: each has its own topic, made anew."""
    folder = tmp_path_factory.mktemp("shared")
    with closing(SqliteBroker(folder, SqliteOptions(sync="normal"))) as broker:
        yield broker


@settings(deadline=None)
@given(appends, st.lists(st.booleans(), min_size=12, max_size=12), st.booleans())
def test_compaction_keeps_the_table_the_last_record_and_the_order(
    shared: SqliteBroker,
    appends: list[list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]],
    cleans: list[bool],
    is_late: bool,
) -> None:
    now_ms = FAR_MS if is_late else None
    shared.create_topic(TopicSpec("t", 1, COMPACT))
    try:
        sent: list[OutRecord] = []
        for records, is_cleaned in zip(appends, cleans, strict=False):
            batch = [OutRecord(P0, k, v, len(sent) + i, h) for i, (k, v, h) in enumerate(records)]
            sent += batch
            shared.append(batch)
            if is_cleaned:
                shared.clean(now_ms)
        shared.clean(now_ms)
        check_against(sent, batches_of(shared, P0), shared.offsets([P0])[P0])
    finally:
        shared.delete_topic("t")


def check_against(sent: list[OutRecord], batches: list[RecordBatch], ends: OffsetRange) -> None:
    whole: dict[bytes | None, bytes] = {}
    for one in sent:
        whole.pop(one.key, None)
        if one.value is not None:
            whole[one.key] = one.value
    assert latest(batches) == whole
    offsets = [offset for batch in batches for offset in batch.offsets]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == len(sent) - 1
    assert batches[-1].next_offset == ends.end == len(sent)
    for batch in batches:
        heads = batch.headers or [()] * len(batch)
        columns = (batch.offsets, batch.timestamps, batch.keys, batch.values, heads)
        for offset, timestamp_ms, key, value, head in zip(*columns, strict=True):
            assert sent[offset] == OutRecord(P0, key, value, timestamp_ms, head)
    kept = set(offsets)
    keyless = {offset for offset, one in enumerate(sent) if one.key is None}
    assert keyless <= kept


def test_compaction_leaves_one_record_for_each_key_and_the_last_row(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, COMPACT), tmp_path) as broker:
        for number in range(300):
            broker.append([record(P0, b"k%d" % (number % 7), b"%d" % number)])
        assert broker.clean().records == 300 - 7
        offsets = [offset for batch in batches_of(broker, P0) for offset in batch.offsets]
        assert offsets == list(range(293, 300))
        assert broker.clean().records == 0


def test_tombstones_stay_a_day_and_then_go(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, COMPACT), tmp_path) as broker:
        broker.append([record(P0, b"a", b"1"), record(P0, b"b", b"1")])
        broker.append([record(P0, b"a", None)])
        broker.append([record(P0, b"z", b"1")])
        broker.clean()
        assert [key for batch in batches_of(broker, P0) for key in batch.keys] == [b"b", b"a", b"z"]
        for _ in range(5):
            broker.append([record(P0, b"z", b"1")])
        broker.clean(FAR_MS)
        assert [key for batch in batches_of(broker, P0) for key in batch.keys] == [b"b", b"z"]


def test_day_of_a_tombstone_begins_when_what_it_deletes_goes(tmp_path: Path) -> None:
    def keys(now_ms: int) -> list[bytes | None]:
        for _ in range(5):
            broker.append([record(P0, b"z", b"1")])
        broker.clean(now_ms)
        return [key for batch in batches_of(broker, P0) for key in batch.keys]

    with broker_with(TopicSpec("t", 1, COMPACT), tmp_path) as broker:
        broker.append([record(P0, b"a", b"1")])
        broker.append([record(P0, b"a", None)])
        # No round for a day: who has just read the value must still come to its end.
        assert keys(FAR_MS) == [b"a", b"z"]
        assert keys(FAR_MS + 23 * 3_600_000) == [b"a", b"z"]
        assert keys(FAR_MS + 25 * 3_600_000) == [b"z"]


def test_topic_is_compacted_only_when_half_of_it_is_new(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, COMPACT), tmp_path) as broker:
        for _ in range(2):
            broker.append([record(P0, b"k%d" % number, b"x") for number in range(1_000)])
        broker.append(numbered(P0, 1))
        assert broker.clean().records == 1_001
        broker.append([record(P0, b"k1", b"y")])
        assert broker.clean().records == 0


def test_reader_in_the_middle_goes_on_over_the_gap(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, COMPACT), tmp_path) as broker:
        for number in range(100):
            broker.append([record(P0, b"k", b"%d" % number)])
        with closing(broker.reader()) as reader:
            reader.assign({P0: 0})
            assert list(reader.poll(0, 10)[0].offsets) == list(range(10))
            broker.clean()
            with closing(broker.reader()) as fresh:
                fresh.assign({P0: 10})
                (batch,) = fresh.poll(0, 1_000)
            assert list(batch.offsets) == [99]
            assert batch.next_offset == 100


def test_rows_that_changed_meanwhile_are_left_alone(tmp_path: Path) -> None:
    """Writers, readers and two cleaners at once: the table stays what it is."""
    spec = TopicSpec("t", 1, frozenset({"compact", "delete"}), None, None)
    with broker_with(spec, tmp_path) as broker, closing(SqliteBroker(tmp_path)) as other:
        is_done = threading.Event()

        def run(one: SqliteBroker) -> None:
            while not is_done.is_set():
                one.clean()

        threads = [threading.Thread(target=run, args=[one]) for one in (broker, other)]
        for thread in threads:
            thread.start()
        for number in range(400):
            broker.append([record(P0, b"k%d" % (number % 9), b"%d" % number)])
        is_done.set()
        for thread in threads:
            thread.join()
        broker.clean()
        batches = batches_of(broker, P0)
        wanted = {b"k%d" % (n % 9): b"%d" % n for n in range(391, 400)}
        assert latest(batches) == wanted
        assert_sizes_agree(broker)


def assert_sizes_agree(broker: SqliteBroker) -> None:
    with broker._bus.read() as conn:
        counted = conn.execute("SELECT bytes FROM part").fetchone()
        assert counted == conn.execute("SELECT sum(length(data)) FROM batch").fetchone()


def test_files_shrink(tmp_path: Path) -> None:
    with broker_with(TopicSpec("t", 1, retention_ms=1_000), tmp_path) as broker:
        for _ in range(40):
            broker.append([record(P0, None, b"x" * 1_000)] * 200)
        assert (tmp_path / "bus.db-wal").stat().st_size > 5 << 20
        broker.clean(FAR_MS)
        assert (tmp_path / "bus.db-wal").stat().st_size == 0
        assert (tmp_path / "bus.db").stat().st_size < 1 << 20
        assert_sizes_agree(broker)


@pytest.mark.parametrize("count", [1, 3])
def test_delete_before_removes_whole_rows_below(tmp_path: Path, count: int) -> None:
    with broker_with(TopicSpec("t", 1), tmp_path) as broker:
        for first in range(0, 400 * count, count):
            broker.append(numbered(P0, count, first))
        topic = broker._topics.find("t")
        assert topic is not None
        assert broker._cleaner.delete_before(Place(topic.tid, 0), 300 * count) == 300
        assert broker.offsets([P0])[P0].earliest == 300 * count


def test_broker_with_a_member_cleans_by_itself(tmp_path: Path) -> None:
    options = SqliteOptions(sync="normal", clean_interval_ms=10)
    with closing(SqliteBroker(tmp_path, options)) as broker:
        broker.create_topic(TopicSpec("t", 1, retention_bytes=1))
        broker.join("g", ["t"])
        is_clean = threading.Event()
        for first in range(0, 20, 10):
            broker.append(numbered(P0, 10, first))
        for _ in range(1_000):
            if broker.offsets([P0])[P0].earliest == 10 or is_clean.wait(0.01):
                break
        assert broker.offsets([P0])[P0].earliest == 10
