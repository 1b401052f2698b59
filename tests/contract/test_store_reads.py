"""What a read of a large table costs: blocks, not files."""

from __future__ import annotations

import random
from pathlib import Path

from streamapp.state.rocksdb import BlockCache, RocksStore

#: So many that the filter of one file with all of them outgrows a shard of the cache (512 KiB).
_ROWS = 600_000
_READS = 1_000
_BLOCK_BYTES = 4_096


def bytes_read() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def test_reads_of_a_table_larger_than_the_cache_fetch_blocks_only(tmp_path: Path) -> None:
    store = RocksStore.open(tmp_path / "store", cache=BlockCache(4 << 20, 2 << 20))
    try:
        numbers = random.Random(1).sample(range(_ROWS), _ROWS)
        for at in range(0, _ROWS, 20_000):
            store.apply({b"%08d" % n: b"%d" % n for n in numbers[at : at + 20_000]})
        store._db.flush()
        store._db.compact_range(None, None)  # what RocksDB does some time later by itself
        before = bytes_read()
        for n in numbers[:_READS]:
            assert store.get(b"%08d" % n) == b"%d" % n
        # A part of the filter, one of the index, the row's block: twice that is generous.
        assert (bytes_read() - before) / _READS < 6 * _BLOCK_BYTES
    finally:
        store.close()
