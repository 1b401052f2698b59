"""The garbage collector of a worker."""

from __future__ import annotations

import gc
from typing import Final

#: Python's own. A batch makes thousands of objects that all go away with it and form no cycles, so
#: that a look at every 700 of them finds nothing.
_USUAL: Final = (700, 10, 10)
_WORKERS: Final = (20_000, 20, 50)


def settle_collector() -> None:
    """Let the collector overlook what there is, and look more seldom at what comes.

    What the start of a worker makes are a hundred thousand objects that live as long as the
    process; to look at them again and again would stall all agents for tens of milliseconds.
    Thresholds that somebody has set stay as they are.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _USUAL:
        gc.set_threshold(*_WORKERS)
