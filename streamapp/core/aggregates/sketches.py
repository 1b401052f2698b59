"""Sketches: what is known of many values in little space; they merge and survive JSON.

Each is determined by the values alone, not by their order: any split that is merged again gives
the same sketch. Pure; hashes do not depend on the process.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from hashlib import blake2b
from typing import Final, cast

#: Registers are 2**12: one byte each, standard error 1.04 / sqrt(4096) = 1.6 %.
_BITS: Final = 12
_REGISTERS: Final = 1 << _BITS
_REST: Final = 64 - _BITS
#: As many hashes take as much room as the registers; up to here the count is exact.
EXACT_DISTINCT: Final = 512


class Distinct:
    """How many different values: exact up to 512, then HyperLogLog with 4,096 registers.

    Values that are equal in Python count once (``1`` and ``1.0``). Beyond 512 the standard error is
    1.6 %. Source: Flajolet 2007; the estimator of Ertl 2017 (arXiv:1702.01284), which needs neither
    corrections nor tables.
    """

    __slots__ = ("_hashes", "_registers")

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._registers: bytearray | None = None

    def add(self, value: object) -> None:
        """Take a value in: text, a number or a boolean."""
        self._add_hash(_hash_of(value))

    def merge(self, other: Distinct) -> None:
        """Take in what the other sketch has seen."""
        if other._registers is not None:
            mine = self._own_registers()
            mine[:] = bytes(map(max, mine, other._registers))
        for seen in other._hashes:
            self._add_hash(seen)

    def result(self) -> int:
        """Return the number of different values, or its estimate."""
        return len(self._hashes) if self._registers is None else _estimate(self._registers)

    def pack(self) -> str:
        """Return the sketch as text."""
        if self._registers is not None:
            return "r" + b64encode(self._registers).decode()
        return "h" + b64encode(b"".join(h.to_bytes(8) for h in sorted(self._hashes))).decode()

    @classmethod
    def unpack(cls, packed: object) -> Distinct:
        """Return the sketch that ``pack`` wrote."""
        text, sketch = cast("str", packed), cls()
        data = b64decode(text[1:])
        if text[0] == "r":
            sketch._registers = bytearray(data)
        else:
            sketch._hashes = {int.from_bytes(data[i : i + 8]) for i in range(0, len(data), 8)}
        return sketch

    def _add_hash(self, seen: int) -> None:
        if self._registers is None:
            self._hashes.add(seen)
            if len(self._hashes) > EXACT_DISTINCT:
                self._own_registers()
            return
        rank = _REST + 1 - (seen & ((1 << _REST) - 1)).bit_length()
        register = seen >> _REST
        self._registers[register] = max(self._registers[register], rank)

    def _own_registers(self) -> bytearray:
        if self._registers is None:
            hashes, self._hashes = self._hashes, set()
            self._registers = bytearray(_REGISTERS)
            for seen in hashes:
                self._add_hash(seen)
        return self._registers


def _hash_of(value: object) -> int:
    """Return 64 bits that are the same for equal values, in every process."""
    if isinstance(value, str):
        data = b"s" + value.encode("utf-8", "surrogatepass")
    elif isinstance(value, float) and not value.is_integer():
        data = b"f" + value.hex().encode()
    else:
        data = b"i%x" % int(cast("int", value))
    return int.from_bytes(blake2b(data, digest_size=8).digest())


def _estimate(registers: bytearray) -> int:
    """Return Ertl's estimate: alpha m**2 over the corrected sum of 2**-register."""
    m, counts = _REGISTERS, [registers.count(rank) for rank in range(_REST + 2)]
    total = m * _tau(1 - counts[_REST + 1] / m)
    for rank in range(_REST, 0, -1):
        total = 0.5 * (total + counts[rank])
    total += m * _sigma(counts[0] / m)
    return round(m * m / (2 * math.log(2) * total))


def _sigma(x: float) -> float:
    """Return ``x + sum of x**(2**k) * 2**(k - 1)``: what the empty registers stand for."""
    if x == 1:
        return math.inf
    power, total, last = 1.0, x, -1.0
    while total != last:
        x, last = x * x, total
        total += x * power
        power += power
    return total


def _tau(x: float) -> float:
    """Return ``(1 - x - sum of (1 - x**(2**-k))**2 * 2**-k) / 3``: what full registers hide."""
    if x in (0, 1):
        return 0.0
    power, total, last = 1.0, 1 - x, -1.0
    while total != last:
        x, last = math.sqrt(x), total
        power *= 0.5
        total -= (1 - x) ** 2 * power
    return total / 3


#: Relative accuracy of a quantile.
ACCURACY: Final = 0.01
_GAMMA: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA: Final = math.log(_GAMMA)
#: Buckets from the greatest magnitude downwards: a factor of 6e17; smaller ones count as the least.
_BUCKETS: Final = 2048


class Quantiles:
    """Quantiles with a relative accuracy of 1 %: DDSketch (Masson, Rim, Lee 2019).

    Bucket ``i`` counts magnitudes in ``(gamma**(i-1), gamma**i]``; 2,048 buckets for each sign,
    counted from the greatest magnitude: those that are 6e17 times smaller lose their accuracy.
    """

    __slots__ = ("_negative", "_positive", "_zeros")

    def __init__(self) -> None:
        self._positive: dict[int, int] = {}
        self._negative: dict[int, int] = {}
        self._zeros = 0

    def add(self, value: float) -> None:
        """Take a number in."""
        if value > 0:
            _count(self._positive, math.ceil(math.log(value) / _LOG_GAMMA), 1)
        elif value < 0:
            _count(self._negative, math.ceil(math.log(-value) / _LOG_GAMMA), 1)
        else:
            self._zeros += 1

    def merge(self, other: Quantiles) -> None:
        """Take in what the other sketch has seen."""
        self._zeros += other._zeros
        for mine, theirs in (
            (self._positive, other._positive),
            (self._negative, other._negative),
        ):
            for bucket, count in theirs.items():
                _count(mine, bucket, count)

    def result(self, q: float) -> float | None:
        """Return the value of rank ``floor(q * (n - 1))``, counted from 0; ``None`` of nothing."""
        n = self._zeros + sum(self._positive.values()) + sum(self._negative.values())
        if not n:
            return None
        rank = math.floor(q * (n - 1))
        for bucket in sorted(self._negative, reverse=True):
            rank -= self._negative[bucket]
            if rank < 0:
                return -_middle(bucket)
        rank -= self._zeros
        if rank < 0:
            return 0.0
        for bucket in sorted(self._positive):
            rank -= self._positive[bucket]
            if rank < 0:
                break
        return _middle(bucket)

    def pack(self) -> list[object]:
        """Return the sketch as lists: zeros, then bucket, count, ... of each sign."""
        stores = (self._positive, self._negative)
        return [self._zeros, *([n for bucket in sorted(s.items()) for n in bucket] for s in stores)]

    @classmethod
    def unpack(cls, packed: object) -> Quantiles:
        """Return the sketch that ``pack`` wrote."""
        zeros, positive, negative = cast("tuple[int, list[int], list[int]]", packed)
        sketch = cls()
        sketch._zeros = zeros
        sketch._positive = dict(zip(positive[::2], positive[1::2], strict=True))
        sketch._negative = dict(zip(negative[::2], negative[1::2], strict=True))
        return sketch


def _count(store: dict[int, int], bucket: int, count: int) -> None:
    """Add to a bucket; the store never spans more than its number of buckets."""
    if bucket in store:
        store[bucket] += count
        return
    if not store:
        store[bucket] = count
        return
    least = max(bucket, *store) - _BUCKETS + 1
    for low in [low for low in store if low < least]:
        store[least] = store.get(least, 0) + store.pop(low)
    bucket = max(bucket, least)
    store[bucket] = store.get(bucket, 0) + count


def _middle(bucket: int) -> float:
    """Return the value that is within the accuracy of all of the bucket."""
    return 2 * math.exp(bucket * _LOG_GAMMA) / (_GAMMA + 1)
