"""Checkpoints of both stores: published whole or not at all, damage found, restored as one step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from streamapp.errors import StateCorruptError, StateError, StateLockedError, UsageError
from streamapp.state.checkpoint import CheckpointStore
from streamapp.state.manifest import (
    ChangelogPosition,
    Manifest,
    SourcePosition,
    decode_manifest,
    encode_manifest,
)
from streamapp.state.memory import MemoryStore
from streamapp.state.rocksdb import RocksStore
from streamapp.state.slots import claim_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamapp.state.slots import StateSlot
    from streamapp.state.store import Store

Open = Callable[[Path], "Store"]


def manifest(number: int) -> Manifest:
    return Manifest(
        id=number,
        created_ms=1_700_000_000_000 + number,
        app="counts",
        sources=(SourcePosition("clicks", 3, number * 10, '{"ahead":{}}'),),
        changelogs=(ChangelogPosition("count", 3, "uid-1", number * 7),),
    )


@pytest.fixture(params=[MemoryStore.open, RocksStore.open], ids=["memory", "rocksdb"])
def open_store(request: pytest.FixtureRequest) -> Open:
    opener: Open = request.param
    return opener


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[StateSlot]:
    with claim_slot(tmp_path / "data") as claimed:
        yield claimed


@pytest.fixture
def store(open_store: Open, slot: StateSlot) -> Iterator[Store]:
    opened = open_store(slot.database)
    yield opened
    opened.close()


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def step(store: Store, number: int) -> None:
    store.apply({b"last": b"%d" % number, b"key%d" % number: b"x" * 100})


def write(checkpoints: CheckpointStore, store: Store, *numbers: int) -> None:
    for number in numbers:
        step(store, number)
        checkpoints.write(store, manifest(number))


def ids(checkpoints: CheckpointStore) -> list[int]:
    return [checkpoint.id for checkpoint in checkpoints.list()]


def a_file_of(checkpoints: CheckpointStore, number: int) -> Path:
    folder = checkpoints.verify(number).folder / "store"
    return next(p for p in sorted(folder.iterdir()) if p.name == "rows" or p.suffix == ".sst")


def test_ids_sort_as_integers(checkpoints: CheckpointStore, store: Store) -> None:
    write(checkpoints, store, 9, 10, 100)
    assert ids(checkpoints) == [9, 10, 100]
    newest = checkpoints.newest()
    assert newest.checkpoint is not None
    assert (newest.checkpoint.id, newest.skipped) == (100, ())


def test_positions_survive_the_round_trip(checkpoints: CheckpointStore, store: Store) -> None:
    step(store, 1)
    written = checkpoints.write(store, manifest(1))
    assert checkpoints.verify(1) == written
    assert written.manifest is not None
    assert msgspec.structs.replace(written.manifest, files=()) == manifest(1)
    assert written.manifest.files


def test_no_folder_means_no_checkpoints(checkpoints: CheckpointStore) -> None:
    assert checkpoints.list() == ()
    assert checkpoints.newest().checkpoint is None
    assert checkpoints.prune(1) == ()


def test_an_id_is_used_once_and_is_positive(checkpoints: CheckpointStore, store: Store) -> None:
    write(checkpoints, store, 1)
    with pytest.raises(StateError, match="exists"):
        checkpoints.write(store, manifest(1))
    with pytest.raises(UsageError):
        checkpoints.write(store, manifest(0))
    assert checkpoints.verify(1).damage == ""


def test_restore_brings_back_the_state_of_its_moment(
    checkpoints: CheckpointStore, store: Store, open_store: Open, slot: StateSlot
) -> None:
    write(checkpoints, store, 1, 2)
    step(store, 3)
    store.close()
    checkpoints.restore(1, slot)
    restored = open_store(slot.database)
    assert [key for key, _ in restored.scan(b"k", b"z")] == [b"key1", b"last"]
    assert restored.get(b"last") == b"1"
    step(restored, 4)
    restored.close()
    for number in (1, 2):
        assert checkpoints.verify(number).damage == ""


def test_restore_into_an_empty_slot(
    checkpoints: CheckpointStore, store: Store, open_store: Open, tmp_path: Path
) -> None:
    write(checkpoints, store, 1)
    with claim_slot(tmp_path / "elsewhere") as other:
        checkpoints.restore(1, other)
        assert other.folder.stat().st_mode & 0o077 == 0
        restored = open_store(other.database)
        assert restored.get(b"last") == b"1"
        restored.close()


def test_restore_needs_a_held_slot(
    checkpoints: CheckpointStore, store: Store, slot: StateSlot
) -> None:
    write(checkpoints, store, 1)
    slot.release()
    with pytest.raises(StateLockedError):
        checkpoints.restore(1, slot)


def test_restore_refuses_an_open_database(checkpoints: CheckpointStore, slot: StateSlot) -> None:
    store = RocksStore.open(slot.database)
    write(checkpoints, store, 1)
    with pytest.raises(StateLockedError, match="open in this process"):
        checkpoints.restore(1, slot)
    step(store, 2)
    assert store.get(b"last") == b"2"
    store.close()


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # or every folder that shares the file by hard link gets the damage
    path.write_bytes(content)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, content)


def cut(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-1])


_DAMAGES: dict[str, Callable[[CheckpointStore], object]] = {
    "a flipped bit in the data": lambda c: flip(a_file_of(c, 2)),
    "cut data": lambda c: cut(a_file_of(c, 2)),
    "missing data": lambda c: a_file_of(c, 2).unlink(),
    "a file too many": lambda c: (a_file_of(c, 2).parent / "000099.log").touch(),
    "a flipped bit in the manifest": lambda c: flip(c.verify(2).folder / "manifest.json"),
    "a cut manifest": lambda c: cut(c.verify(2).folder / "manifest.json"),
    "no manifest": lambda c: (c.verify(2).folder / "manifest.json").unlink(),
    "the manifest of another": lambda c: (c.verify(2).folder / "manifest.json").write_bytes(
        (c.verify(1).folder / "manifest.json").read_bytes()
    ),
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_checkpoint_is_skipped_and_never_restored(
    checkpoints: CheckpointStore, store: Store, slot: StateSlot, damage: str
) -> None:
    write(checkpoints, store, 1, 2)
    _DAMAGES[damage](checkpoints)
    newest = checkpoints.newest()
    assert newest.checkpoint is not None
    assert newest.checkpoint.id == 1
    assert [(skipped.id, bool(skipped.damage)) for skipped in newest.skipped] == [(2, True)]
    store.close()
    with pytest.raises(StateCorruptError, match="checkpoint 2"):
        checkpoints.restore(2, slot)


def test_a_failed_restore_keeps_the_former_state(
    checkpoints: CheckpointStore, store: Store, slot: StateSlot
) -> None:
    write(checkpoints, store, 1)
    step(store, 2)
    store.close()
    before = sorted(slot.folder.parent.rglob("*"))
    with pytest.raises(StateCorruptError):
        checkpoints.restore(7, slot)
    assert sorted(slot.folder.parent.rglob("*")) == before


def test_prune_keeps_the_newest_and_does_not_count_damaged_ones(
    checkpoints: CheckpointStore, store: Store, tmp_path: Path
) -> None:
    write(checkpoints, store, 1, 2, 3, 4, 5)
    a_file_of(checkpoints, 4).unlink()
    (tmp_path / "checkpoints" / "6.tmp" / "store").mkdir(parents=True)
    assert checkpoints.prune(2) == (1, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4", "5"]
    assert checkpoints.prune(9) == ()
    with pytest.raises(UsageError):
        checkpoints.prune(0)


def test_unchanged_tables_are_shared_between_checkpoints(
    checkpoints: CheckpointStore, slot: StateSlot
) -> None:
    store = RocksStore.open(slot.database)
    write(checkpoints, store, 1, 2)
    first, second = a_file_of(checkpoints, 1), checkpoints.verify(2).folder / "store"
    assert first.samefile(second / first.name)
    assert checkpoints.verify(2).damage == ""
    store.close()


def test_a_new_table_under_a_former_name_is_summed_anew(
    checkpoints: CheckpointStore, slot: StateSlot
) -> None:
    names = []
    for number in (1, 2):
        slot.wipe()
        store = RocksStore.open(slot.database)
        write(checkpoints, store, number)
        store.close()
        names.append(a_file_of(checkpoints, number).name)
    assert names[0] == names[1]
    assert checkpoints.verify(2).damage == ""


def test_a_restored_store_shares_only_what_is_never_written_to(
    checkpoints: CheckpointStore, slot: StateSlot
) -> None:
    store = RocksStore.open(slot.database)
    write(checkpoints, store, 1)
    store.close()
    checkpoints.restore(1, slot)
    copy = checkpoints.verify(1).folder / "store"
    shared = {p.suffix for p in copy.iterdir() if p.samefile(slot.database / p.name)}
    assert shared == {".sst"}


def test_a_manifest_of_a_newer_format_is_refused_with_its_number() -> None:
    newer = encode_manifest(msgspec.structs.replace(manifest(1), format=2))
    with pytest.raises(StateCorruptError, match="format 2"):
        decode_manifest(newer)


def test_no_bit_of_a_manifest_flips_unseen() -> None:
    stored = encode_manifest(manifest(1))
    for position in range(len(stored) * 8):
        flipped = bytearray(stored)
        flipped[position // 8] ^= 1 << position % 8
        try:
            found = decode_manifest(bytes(flipped))
        except StateCorruptError:
            continue
        # Only a letter of the envelope's own field names is left, and msgspec skips unknown ones.
        assert found == manifest(1)
