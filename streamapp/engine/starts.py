"""Where reading begins in a partition: at what is committed, as far as the log has it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streamapp.core.positions import Progress, parse_progress

if TYPE_CHECKING:
    from streamapp.core.batch import TP
    from streamapp.transport.broker import OffsetRange, Position

log = logging.getLogger(__name__)


def in_log(tp: TP, position: Position, there: OffsetRange) -> Progress:
    """Return a committed position as far as the log has it; says so where it has not."""
    if position.offset < there.earliest:
        log.warning(
            "%s/%d: records %d to %d were deleted by retention before they were processed",
            *tp, position.offset, there.earliest - 1,
        )  # fmt: skip
    progress = parse_progress(*position)
    if position.offset > there.end:
        log.warning(
            "%s/%d ends at %d, before our position %d: it was made anew, or has lost its end. "
            "Reading goes on at its end",
            *tp, there.end, position.offset,
        )  # fmt: skip
    return progress.up_to(there.end)
