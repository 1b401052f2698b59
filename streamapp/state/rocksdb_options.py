"""How RocksDB is set up, and the one memory budget that all databases of a process share.

Options that rocksdict does not know are ignored in silence, so only its setters are used here.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import rocksdict

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB

#: Bytes for blocks, indexes, filters and memtables of all databases together. Smaller than the
#: filters of the hot tables (1.25 bytes per row) and every absent key costs a disk read.
DEFAULT_CACHE_BYTES: Final = 64 * _MIB
#: Of these, bytes for memtables. The next write after that starts a flush of the fullest one.
DEFAULT_WRITE_BYTES: Final = 32 * _MIB

_MEMTABLE_BYTES: Final = 8 * _MIB  # a larger one makes flushes rarer and a crash's replay longer
_WAL_BYTES: Final = 64 * _MIB  # bounds what an open after a crash replays
_OPEN_FILES: Final = 256  # per database; unbounded, many databases meet the process's limit
_BLOOM_BITS: Final = 10  # one in a hundred absent keys reads a block
_BLOCK_BYTES: Final = 4 * _KIB  # a point read decompresses one block; larger ones cost it more
_FILE_SYNC_BYTES: Final = _MIB  # smooths write-back; one large one stalls the writer
_MANIFEST_BYTES: Final = 4 * _MIB  # read whole at every open; written anew when it gets there
_INFO_LOG_BYTES: Final = _MIB  # RocksDB's own text log, of which two are kept
_INFO_LOGS: Final = 2
_FORMAT: Final = 5  # full filters of the present kind; read by every RocksDB since 6.6


class BlockCache:
    """A bounded cache of blocks, in which the memtables are counted too. Thread-safe."""

    __slots__ = ("blocks", "write_buffers")

    def __init__(
        self, size_bytes: int = DEFAULT_CACHE_BYTES, write_bytes: int = DEFAULT_WRITE_BYTES
    ) -> None:
        self.blocks = rocksdict.Cache(size_bytes)
        # No stalls: a write waits for memory that an idle database may hold, which flushes only
        # when it is written to itself. So the bound is soft, by two memtables of each database.
        self.write_buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(
            write_bytes, allow_stall=False, cache=self.blocks
        )

    @property
    def used_bytes(self) -> int:
        """Bytes in use, memtables included."""
        return self.blocks.get_usage()


@cache
def shared_cache() -> BlockCache:
    """Return the cache of this process; made at first use."""
    return BlockCache()


def options(memory: BlockCache) -> rocksdict.Options:
    """Return the options that every database is opened with, old or new."""
    chosen = rocksdict.Options(raw_mode=True)
    chosen.set_block_based_table_factory(_table_format(memory))
    _bound_memory(chosen, memory)
    _bound_disk(chosen)
    # A checksum that fails stops the database at once instead of being logged.
    chosen.set_paranoid_checks(True)
    # What a crash or power cut left of the log is used up to its first damaged record.
    chosen.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
    return chosen


def _table_format(memory: BlockCache) -> rocksdict.BlockBasedOptions:
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(memory.blocks)
    table.set_block_size(_BLOCK_BYTES)
    table.set_bloom_filter(_BLOOM_BITS, block_based=False)
    table.set_format_version(_FORMAT)
    # Indexes and filters count against the bound; otherwise they grow with the number of rows.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # In parts: those of a large file as one block outgrow a shard of the cache (a 64th of it), and
    # every read would fetch them from disk. At 700,000 rows a read then took 70 us instead of 6.
    table.set_index_type(rocksdict.BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    return table


def _bound_memory(chosen: rocksdict.Options, memory: BlockCache) -> None:
    chosen.set_write_buffer_manager(memory.write_buffers)
    chosen.set_write_buffer_size(_MEMTABLE_BYTES)
    chosen.set_max_open_files(_OPEN_FILES)


def _bound_disk(chosen: rocksdict.Options) -> None:
    # A third of the bytes on disk for two microseconds per block.
    chosen.set_compression_type(rocksdict.DBCompressionType.lz4())
    chosen.set_max_total_wal_size(_WAL_BYTES)
    chosen.set_bytes_per_sync(_FILE_SYNC_BYTES)
    chosen.set_max_manifest_file_size(_MANIFEST_BYTES)
    chosen.set_keep_log_file_num(_INFO_LOGS)
    chosen.set_max_log_file_size(_INFO_LOG_BYTES)
    # Statistics for nobody: they cost a thread's wake-up each and, at open, a read of every file.
    chosen.set_stats_dump_period_sec(0)
    chosen.set_stats_persist_period_sec(0)
    chosen.set_skip_stats_update_on_db_open(True)
