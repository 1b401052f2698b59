"""Shows how far a restore is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamapp.engine.restore import RestoreProgress, ShardPlan

log = logging.getLogger(__name__)

_LINE_S = 5.0
_BAR_S = 0.2
#: Records below which a restore is over before anybody could read about it.
_WORTH_SHOWING = 50_000


async def show(progress: RestoreProgress) -> None:
    """Show the restore until it ends; cancel it at will."""
    total = progress.records[1]
    if sys.stderr.isatty() and total >= _WORTH_SHOWING:
        await _bar(progress)
        return
    while progress.ended is None:
        await asyncio.sleep(_LINE_S)
        if progress.ended is None:
            log.info("%s", describe(progress))


def describe(progress: RestoreProgress) -> str:
    """Return the progress as one line."""
    done, total = progress.records
    left_s = (total - done) / progress.rate if progress.rate else 0.0
    return (
        f"Restoring: {done:,} of {total:,} records ({100 * done // max(total, 1)} %), "
        f"{progress.rate:,.0f}/s, about {left_s:.0f} s left"
    )


def describe_end(plans: Sequence[ShardPlan], progress: RestoreProgress) -> str:
    """Return what a restore had to do, as one line."""
    numbers = ", ".join(map(str, sorted({plan.partition for plan in plans})))
    at_hand, read = sum(progress.at_hand.values()), progress.records[0]
    return (
        f"Restored partitions {numbers}: {at_hand:,} records of the changelogs at hand, "
        f"{read:,} read at {progress.rate:,.0f}/s"
    )


async def _bar(progress: RestoreProgress) -> None:
    from rich.progress import Progress  # noqa: PLC0415 - only with a terminal

    with Progress(transient=True) as bar:
        task = bar.add_task("Restoring tables", total=progress.records[1])
        while progress.ended is None:
            bar.update(task, completed=progress.records[0])
            await asyncio.sleep(_BAR_S)
