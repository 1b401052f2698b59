"""Named crash points: exact, silent when unset, refused when misspelt."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streamapp.errors import ConfigError
from streamapp.faults import VARIABLE, crash_point, parse_plan

_PROGRAM = """
from streamapp.faults import crash_point
for passage in range(1, 4):
    crash_point("other")
    print(passage, flush=True)
    crash_point("here")
"""


def run(plan: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, VARIABLE: plan},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("plan", "status", "printed"),
    [("", 0, "123"), ("here:1", 137, "1"), ("here:2", 137, "12"), ("nowhere:1", 0, "123")],
)
def test_the_process_ends_at_the_named_passage(plan: str, status: int, printed: str) -> None:
    done = run(plan)
    assert (done.returncode, done.stdout.replace("\n", "")) == (status, printed)


def test_a_name_may_have_colons() -> None:
    assert parse_plan("a:b:3") == ("a:b", 3)


@pytest.mark.parametrize("plan", ["here", "here:", ":1", "here:0", "here:-1", "here:x"])
def test_a_misspelt_plan_is_refused(plan: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        parse_plan(plan)


def test_a_point_without_a_plan_does_nothing() -> None:
    crash_point("anywhere")
