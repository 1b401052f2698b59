"""streamapp: declarative streaming applications in Python.

The public names below are loaded at first use, so that ``streamapp --help`` stays fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from streamapp.errors import StreamappError

if TYPE_CHECKING:
    from types import TracebackType

    from streamapp.app import App
    from streamapp.core.aggregates.constructors import (
        aggregate,
        avg,
        collect,
        count,
        distinct_count,
        first,
        last,
        max,  # noqa: A004 - read as streamapp.max
        min,  # noqa: A004 - read as streamapp.min
        quantile,
        stddev,
        stddev_sample,
        sum,  # noqa: A004 - read as streamapp.sum
        top_k,
    )
    from streamapp.engine.batch import Batch
    from streamapp.engine.policy import ErrorPolicy
    from streamapp.engine.stream import Stream
    from streamapp.engine.topic import Topic
    from streamapp.operators.results import WindowRow
    from streamapp.pipelines.pipeline import Pipeline
    from streamapp.pipelines.words import (
        count_window,
        global_window,
        hopping,
        session,
        sliding,
        tumbling,
    )
    from streamapp.records import Record
    from streamapp.state.table import Table

__all__ = [
    "App",
    "Batch",
    "ErrorPolicy",
    "Pipeline",
    "Record",
    "Stream",
    "StreamappError",
    "Table",
    "Topic",
    "WindowRow",
    "aggregate",
    "avg",
    "collect",
    "count",
    "count_window",
    "distinct_count",
    "first",
    "global_window",
    "hopping",
    "last",
    "max",
    "min",
    "quantile",
    "session",
    "sliding",
    "stddev",
    "stddev_sample",
    "sum",
    "top_k",
    "tumbling",
]

_HOME = {
    "App": "streamapp.app",
    "Batch": "streamapp.engine.batch",
    "ErrorPolicy": "streamapp.engine.policy",
    "Pipeline": "streamapp.pipelines.pipeline",
    "Record": "streamapp.records",
    "Stream": "streamapp.engine.stream",
    "Table": "streamapp.state.table",
    "Topic": "streamapp.engine.topic",
    "WindowRow": "streamapp.operators.results",
    **dict.fromkeys(
        (
            "aggregate",
            "avg",
            "collect",
            "count",
            "distinct_count",
            "first",
            "last",
            "max",
            "min",
            "quantile",
            "stddev",
            "stddev_sample",
            "sum",
            "top_k",
        ),
        "streamapp.core.aggregates.constructors",
    ),
    **dict.fromkeys(
        (
            "count_window",
            "global_window",
            "hopping",
            "session",
            "sliding",
            "tumbling",
        ),
        "streamapp.pipelines.words",
    ),
}


def __getattr__(name: str) -> object:
    """Load a public name from its home."""
    if name not in _HOME:
        msg = f"module 'streamapp' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOME[name]), name)


def _say_plainly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a mistake of the user as one line where Faust's command would print a traceback."""
    if not isinstance(error, StreamappError):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"faust: {error}", file=sys.stderr)  # noqa: T201 - there is no logger yet
    raise SystemExit(error.exit_code)  # the interpreter's way to let a hook decide the status


# As a script, and as `python -m faust`. Here, because settings are read before there is an App.
if Path(sys.argv[0]).parts[-1:] == ("faust",) or sys.argv[0].endswith("/faust/__main__.py"):
    sys.excepthook = _say_plainly
