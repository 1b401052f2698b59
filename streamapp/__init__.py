"""streamapp: declarative streaming applications in Python.

The public names below are loaded at first use, so that ``streamapp --help`` stays fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamapp.app import App
    from streamapp.engine.policy import ErrorPolicy
    from streamapp.engine.stream import Stream
    from streamapp.engine.topic import Topic
    from streamapp.errors import StreamappError
    from streamapp.records import Record
    from streamapp.state.table import Table

__all__ = ["App", "ErrorPolicy", "Record", "Stream", "StreamappError", "Table", "Topic"]

_HOME = {
    "App": "streamapp.app",
    "ErrorPolicy": "streamapp.engine.policy",
    "Record": "streamapp.records",
    "Stream": "streamapp.engine.stream",
    "StreamappError": "streamapp.errors",
    "Table": "streamapp.state.table",
    "Topic": "streamapp.engine.topic",
}


def __getattr__(name: str) -> object:
    """Load a public name from its home."""
    if name not in _HOME:
        msg = f"module 'streamapp' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOME[name]), name)
