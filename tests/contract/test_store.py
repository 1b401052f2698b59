"""What every store promises, run over each of them, and a model-based law."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamapp.errors import StateCorruptError, StateError, StateLockedError, StateUnavailableError
from streamapp.state.memory import MemoryStore
from streamapp.state.rocksdb import RocksStore
from streamapp.state.rocksdb_options import BlockCache
from streamapp.state.store import note_key, prefix_end, shard_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamapp.state.store import Store

Open = Callable[[Path], "Store"]
_OPENERS: dict[str, Open] = {"memory": MemoryStore.open, "rocksdb": RocksStore.open}
_ALL = (b"", b"\xff" * 8)


@pytest.fixture(params=_OPENERS)
def open_store(request: pytest.FixtureRequest) -> Open:
    return _OPENERS[request.param]


@pytest.fixture
def store(open_store: Open, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def rocks(tmp_path: Path) -> Iterator[RocksStore]:
    opened = RocksStore.open(tmp_path / "store")
    yield opened
    opened.close()


def rows(store: Store, start: bytes = _ALL[0], end: bytes = _ALL[1]) -> list[tuple[bytes, bytes]]:
    return list(store.scan(start, end))


def fill(store: Store, count: int) -> None:
    store.apply({b"%06d" % n: b"v%d" % n for n in range(count)})


def test_absent_key_is_none_and_empty_value_is_not(store: Store) -> None:
    store.apply({b"empty": b""})
    assert store.get(b"absent") is None
    assert store.get(b"empty") == b""


def test_apply_writes_overwrites_and_deletes_in_one_step(store: Store) -> None:
    store.apply({b"a": b"1", b"b": b"1"})
    store.apply({b"c": b"2", b"a": b"2", b"b": None, b"never": None})
    assert rows(store) == [(b"a", b"2"), (b"c", b"2")]
    assert store.get(b"b") is None


def test_many_new_and_dropped_keys_between_old_ones(store: Store) -> None:
    numbers = random.Random(1).sample(range(1_000), 1_000)
    for first in range(0, 1_000, 250):
        store.apply({b"%06d" % n: b"x" for n in numbers[first : first + 250]})
    store.apply({b"%06d" % n: None for n in numbers[:100]})
    assert [int(key) for key, _ in rows(store)] == sorted(numbers[100:])


def test_apply_of_nothing_changes_nothing(store: Store) -> None:
    store.apply({})
    assert rows(store) == []


def test_keys_are_ordered_as_unsigned_bytes(store: Store) -> None:
    keys = [b"\x00", b"\x00\x00", b"\x01", b"a", b"aa", b"b", b"\x7f", b"\x80", b"\xff"]
    store.apply(dict.fromkeys(reversed(keys), b""))
    assert [key for key, _ in rows(store)] == keys


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (b"b", b"d", "bc"),
        (b"b", b"b", ""),
        (b"d", b"b", ""),
        (b"aa", b"cc", "bc"),
        (b"", b"b", "a"),
        (b"d", b"\xff", "de"),
        (b"x", b"z", ""),
        (b"", b"a", ""),
    ],
)
def test_scan_is_half_open_in_both_directions(
    store: Store, start: bytes, end: bytes, expected: str, *, reverse: bool
) -> None:
    store.apply({bytes([char]): b"" for char in b"edcba"})
    found = b"".join(key for key, _ in store.scan(start, end, reverse=reverse)).decode()
    assert found == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_shows_the_moment_of_the_call(store: Store, *, reverse: bool) -> None:
    fill(store, 200)
    before = rows(store)
    unstarted, started = (store.scan(*_ALL, reverse=reverse) for _ in range(2))
    first = next(started)
    store.apply({b"000100": None, b"000101": b"new", b"0000005": b"new"})
    store.delete_range(b"000150", b"000160")
    expected = before[::-1] if reverse else before
    assert [first, *started] == expected
    assert list(unstarted) == expected


def test_delete_range_is_half_open(store: Store) -> None:
    fill(store, 10)
    store.delete_range(b"000003", b"000007")
    assert [int(key) for key, _ in rows(store)] == [0, 1, 2, 7, 8, 9]
    assert store.get(b"000003") is None
    assert store.get(b"000007") is not None


@pytest.mark.parametrize(("start", "end"), [(b"5", b"5"), (b"7", b"3")])
def test_delete_of_an_empty_or_inverted_range_leaves_a_working_store(
    store: Store, start: bytes, end: bytes
) -> None:
    store.apply({b"4": b"1", b"5": b"1"})
    store.delete_range(start, end)
    store.apply({b"6": b"1"})
    assert [key for key, _ in rows(store)] == [b"4", b"5", b"6"]


def test_a_row_written_after_a_range_delete_stays(store: Store) -> None:
    fill(store, 10)
    store.delete_range(b"000000", b"000009")
    store.apply({b"000004": b"again"})
    assert rows(store) == [(b"000004", b"again"), (b"000009", b"v9")]


def test_one_shard_of_a_table_is_wiped_without_its_neighbours(store: Store) -> None:
    keep = [shard_prefix("t", 0), shard_prefix("t", 256), shard_prefix("t2", 255), note_key("n")]
    gone = shard_prefix("t", 255)
    store.apply({prefix + tail: b"x" for prefix in [*keep, gone] for tail in (b"", b"\xff\xff")})
    store.delete_range(gone, prefix_end(gone))
    assert {key for key, _ in rows(store)} == {
        prefix + tail for prefix in keep for tail in (b"", b"\xff\xff")
    }


def test_checkpoint_is_the_state_of_its_moment(
    store: Store, open_store: Open, tmp_path: Path
) -> None:
    fill(store, 100)
    expected = rows(store)
    store.checkpoint(tmp_path / "copy")
    store.apply({b"000001": b"later", b"000002": None})
    copy = open_store(tmp_path / "copy")
    assert rows(copy) == expected
    copy.apply({b"000003": b"elsewhere"})
    copy.close()
    assert store.get(b"000003") == b"v3"


def test_checkpoint_refuses_a_folder_that_exists_and_the_store_goes_on(
    store: Store, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path / "none" / "copy"):
        with pytest.raises(StateError):
            store.checkpoint(folder)
    store.apply({b"a": b"1"})
    assert store.get(b"a") == b"1"


def test_every_call_on_a_closed_store_raises(store: Store, tmp_path: Path) -> None:
    fill(store, 10)
    running = store.scan(*_ALL)
    next(running)
    store.close()
    store.close()
    calls: list[Callable[[], Any]] = [
        lambda: next(running),  # not StopIteration: a scan that was cut short is no whole scan
        lambda: store.get(b"a"),
        lambda: store.apply({b"a": b"1"}),
        lambda: store.scan(b"a", b"b"),
        lambda: store.delete_range(b"a", b"b"),
        lambda: store.checkpoint(tmp_path / "copy"),
    ]
    for call in calls:
        with pytest.raises(StateError, match="closed"):
            call()


def test_readers_beside_a_writer_see_whole_steps(store: Store) -> None:
    steps = 300
    store.apply(dict.fromkeys((b"a", b"b", b"c"), b"%06d" % 0))
    torn: list[object] = []

    def read() -> None:
        value = b""
        while value != b"%06d" % steps:
            values = {value for _, value in store.scan(b"a", b"d")}
            first, second = store.get(b"c"), store.get(b"a")
            if len(values) != 1 or first is None or second is None or second < first:
                torn.append((values, first, second))
                return
            value = first

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(1, steps + 1):
        store.apply(dict.fromkeys((b"a", b"b", b"c"), b"%06d" % step))
    reader.join(timeout=30)
    assert not reader.is_alive()
    assert torn == []


def test_memory_copy_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    fill(store, 3)
    store.checkpoint(tmp_path / "copy")
    stored = bytearray((tmp_path / "copy" / "rows").read_bytes())
    stored[-1] ^= 1
    (tmp_path / "copy" / "rows").write_bytes(stored)
    with pytest.raises(StateCorruptError):
        MemoryStore.open(tmp_path / "copy")


def test_rocksdb_reopens_with_all_rows_though_a_scan_is_alive(
    rocks: RocksStore, tmp_path: Path
) -> None:
    fill(rocks, 100)
    expected = rows(rocks)
    scan = rocks.scan(*_ALL)
    next(scan)
    rocks.close()
    again = RocksStore.open(tmp_path / "store")
    assert rows(again) == expected
    again.close()


def test_rocksdb_opened_twice_names_the_holder(rocks: RocksStore) -> None:
    with pytest.raises(StateLockedError, match="held by this process"):
        RocksStore.open(rocks.folder)
    rocks.apply({b"a": b"1"})


def test_rocksdb_folder_is_private(rocks: RocksStore) -> None:
    assert rocks.folder.stat().st_mode & 0o077 == 0


def test_rocksdb_refuses_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateUnavailableError, match="file"):
        RocksStore.open(tmp_path / "file")


def test_databases_share_one_bounded_cache(tmp_path: Path) -> None:
    cache = BlockCache(size_bytes=4 << 20, write_bytes=1 << 20)
    stores = [RocksStore.open(tmp_path / str(n), cache=cache) for n in range(4)]
    for number in range(40):
        for store in stores:
            store.apply({b"%d-%d" % (number, n): bytes(1_000) for n in range(100)})
    for store in stores:
        assert len(rows(store)) == 4_000
    assert cache.used_bytes > 0
    until = time.monotonic() + 30
    while cache.used_bytes > 6 << 20 and time.monotonic() < until:
        for store in stores:  # a database looks at the bound when it is written to
            store.apply({b"a": b"1"})
    used = cache.used_bytes
    for store in stores:
        store.close()
    assert used <= 6 << 20


_KEYS = st.binary(min_size=1, max_size=2).map(lambda key: bytes(byte % 4 for byte in key))
_CHANGES = st.dictionaries(_KEYS, st.none() | st.binary(max_size=3), max_size=6)


class StoreMachine(RuleBasedStateMachine):
    """Any calls in any order leave the store equal to a dict that went through the same."""

    open_store: Open
    survives: bool  # closing and opening again keeps the rows

    @initialize()
    def begin(self) -> None:
        self.root = tempfile.TemporaryDirectory()
        self.folder = Path(self.root.name) / "store"
        self.copies = 0
        self.model: dict[bytes, bytes] = {}
        self.store = type(self).open_store(self.folder)

    @rule(changes=_CHANGES)
    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.store.apply(changes)
        for key, value in changes.items():
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule(start=_KEYS, end=_KEYS)
    def delete_range(self, start: bytes, end: bytes) -> None:
        self.store.delete_range(start, end)
        self.model = {k: v for k, v in self.model.items() if not start <= k < end}

    @rule(key=_KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.get(key)

    @rule(start=_KEYS, end=_KEYS, reverse=st.booleans())
    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> None:
        expected = sorted(
            ((k, v) for k, v in self.model.items() if start <= k < end), reverse=reverse
        )
        assert list(self.store.scan(start, end, reverse=reverse)) == expected

    @rule()
    def go_on_with_a_copy(self) -> None:
        self.copies += 1
        self.folder = self.folder.with_name(f"copy{self.copies}")
        self.store.checkpoint(self.folder)
        self.store.close()
        self.store = type(self).open_store(self.folder)

    @rule()
    def reopen(self) -> None:
        if self.survives:
            self.store.close()
            self.store = type(self).open_store(self.folder)

    @invariant()
    def holds_the_model(self) -> None:
        if hasattr(self, "store"):
            assert rows(self.store) == sorted(self.model.items())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.root.cleanup()


class MemoryMachine(StoreMachine):
    open_store = staticmethod(MemoryStore.open)
    survives = False


class RocksMachine(StoreMachine):
    open_store = staticmethod(RocksStore.open)
    survives = True


_SETTINGS = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestMemoryModel = MemoryMachine.TestCase
TestMemoryModel.settings = _SETTINGS
TestRocksModel = RocksMachine.TestCase
TestRocksModel.settings = _SETTINGS
