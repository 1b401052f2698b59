"""Kafka's choice of partition, so that keys keep their partition on every broker.

It must never differ from the Java client's: a key that moves loses its table row and its order.
``partition = (murmur2(key) & 0x7fffffff) % partitions``; a record without a key goes anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import unpack_from
from typing import Final

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF

#: Entries and key bytes of the cache: at most some 30 MB, whatever the keys are.
_CACHE_ENTRIES = 65_536
_CACHED_KEY_BYTES = 256
#: Keys from which on columns pay, and the longest key that may be in one.
_MANY: Final = 16
_COLUMN_KEY_BYTES: Final = 64


def murmur2(data: bytes) -> int:
    """Hash to 32 bits, unsigned, as ``org.apache.kafka.common.utils.Utils.murmur2`` does."""
    length = len(data)
    h = _SEED ^ length
    for word in unpack_from(f"<{length >> 2}I", data):
        k = word * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if tail := length & 3:
        h = (h ^ int.from_bytes(data[-tail:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=_CACHE_ENTRIES)
def _cached_hash(key: bytes) -> int:
    return murmur2(key) & 0x7FFFFFFF


def partition_for_key(key: bytes, partitions: int) -> int:
    """Return the partition of a key, in ``[0, partitions)``; an empty key is a key too.

    Hashes of short keys are cached, so a repeated key costs a dictionary look-up. Thread-safe.
    """
    if len(key) > _CACHED_KEY_BYTES:
        return (murmur2(key) & 0x7FFFFFFF) % partitions
    return _cached_hash(key) % partitions


def partitions_for_keys(keys: Sequence[bytes], partitions: int) -> list[int]:
    """Return ``partition_for_key`` of each key, at a tenth of its cost for keys not met before."""
    if partitions == 1:
        return [0] * len(keys)
    longest = max(map(len, keys), default=0)
    if len(keys) < _MANY or longest > _COLUMN_KEY_BYTES:
        return [partition_for_key(key, partitions) for key in keys]
    return _partitions_of_many(keys, longest, partitions)


def _partitions_of_many(keys: Sequence[bytes], longest: int, partitions: int) -> list[int]:
    import numpy as np  # noqa: PLC0415 - workers without pipelines do without it

    def mixed(hashes: np.ndarray, words: np.ndarray) -> np.ndarray:
        words = words * m
        words = (words ^ words >> np.uint32(24)) * m
        return hashes * m ^ words

    m = np.uint32(_M)
    # One zero word more than the longest key: behind the whole words of a key comes its tail.
    width = (longest // 4 + 1) * 4
    padded = b"".join([key.ljust(width, b"\0") for key in keys])
    columns = np.frombuffer(padded, "<u4").reshape(len(keys), -1).T.astype(np.uint32)
    lengths = np.fromiter(map(len, keys), np.uint32, len(keys))
    hashes = np.uint32(_SEED) ^ lengths
    for place, words in enumerate(columns[:-1]):
        hashes = np.where(place < lengths // 4, mixed(hashes, words), hashes)
    tails = columns[lengths // 4, np.arange(len(keys))]
    hashes = np.where(lengths % 4 > 0, (hashes ^ tails) * m, hashes)
    hashes = (hashes ^ hashes >> np.uint32(13)) * m
    hashes ^= hashes >> np.uint32(15)
    found: list[int] = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).tolist()
    return found


class StickyChooser:
    """Chooses partitions for records without a key: some hundreds in a row for the same one.

    Changing the partition with every record would tear one large write into many tiny ones.
    Used by one thread.
    """

    def __init__(self, *, run: int = 200, start: int = 0) -> None:
        """Stay ``run`` records on a partition; ``start`` spreads processes over partitions."""
        self._run = run
        self._start = start
        self._sent: dict[str, int] = {}

    def choose(self, topic: str, partitions: int) -> int:
        """Return the partition of the topic's next record without a key."""
        sent = self._sent.get(topic, 0)
        self._sent[topic] = sent + 1
        return (self._start + sent // self._run) % partitions
