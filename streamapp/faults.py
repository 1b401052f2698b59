"""Named points at which a crash test kills the process, as ``kill -9`` would.

``STREAMAPP_CRASH_AT="checkpoint.publish:3"`` ends the process at the third passage of that point:
no handler runs, no buffer is written, the exit status is 137. Unset, a passage costs one look at a
flag. It must never decide anything else.
"""

from __future__ import annotations

import os

from streamapp.errors import ConfigError

VARIABLE = "STREAMAPP_CRASH_AT"
_EXIT_STATUS = 137  # what a shell reports of a process that got SIGKILL


def parse_plan(text: str) -> tuple[str, int]:
    """Split ``name:n`` into the point and the passage, counted from 1; empty means no crash.

    Raises:
        ConfigError: It is neither empty nor ``name:n`` with ``n`` at least 1.
    """
    if not text:
        return "", 0
    name, _, passage = text.rpartition(":")
    if not name or not passage.isdecimal() or int(passage) == 0:
        message = f"{VARIABLE}={text!r} is not name:n with n at least 1"
        raise ConfigError(message, hint=f"Unset {VARIABLE}, or set it to e.g. checkpoint.publish:1")
    return name, int(passage)


_point, _passages_left = parse_plan(os.environ.get(VARIABLE, ""))


def crash_point(name: str) -> None:
    """Die here if the environment says so."""
    if _point:
        _pass(name)


def _pass(name: str) -> None:
    global _passages_left  # noqa: PLW0603 - a process crashes once: its countdown is the process's
    if name != _point:
        return
    _passages_left -= 1
    if _passages_left == 0:
        os._exit(_EXIT_STATUS)
