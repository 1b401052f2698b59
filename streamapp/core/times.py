"""Event times: integer milliseconds since 1970, negative allowed; arithmetic saturates at 64 bits.

Intervals are half-open ``[start, end)``; a window's last instant is ``end - 1``. A watermark ``w``
says that no further record with a time ``<= w`` is expected. Pure.
"""

from __future__ import annotations

from typing import Final

#: Before every event time and every watermark; fits 64 bits with room for arithmetic.
NEVER_MS: Final = -(1 << 62)
#: The greatest time there is; a timer that is due then never fires.
FOREVER_MS: Final = (1 << 63) - 1
_LEAST_MS: Final = -(1 << 63)
#: Times beyond are worked on one by one: 64-bit columns of them could overflow.
COLUMN_LIMIT_MS: Final = 1 << 61


def plus(time_ms: int, more_ms: int) -> int:
    """Return the sum, or the end of the 64-bit range that it would pass."""
    return min(max(time_ms + more_ms, _LEAST_MS), FOREVER_MS)
