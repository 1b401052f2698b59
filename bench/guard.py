"""Have we become slower? Our rates over those of a plain loop, beside the last ones kept.

    scripts/bench --check           # compare with the last line of results/ratios.jsonl
    scripts/bench --check --keep    # and add a line for this commit

A ratio of two programs in one run says little about the machine and much about the code; still it
moves by some 15 % on a busy one, so that only more than ``TOLERANCE`` is called slower. A report,
not a test: nothing fails.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from streamapp.bench.runs import Measured, Plan, machine, measure

TOLERANCE = 0.25
_KEPT = Path(__file__).parent / "results" / "ratios.jsonl"
_PLAN = Plan(engines=("ours", "plain"), events=200_000)


def check(*, is_kept: bool) -> None:
    """Measure all scenarios, compare, and keep the ratios if asked to."""
    before = last_kept()
    where = f"commit {before['commit']}" if before else "nothing kept yet"
    print(
        f"Ratio to a plain loop of the same run; compared with {where}, tolerance {TOLERANCE:.0%}"
    )
    ratios: dict[str, float] = {}
    for found in measure(_PLAN, lambda _: None):
        scenario = found[0].scenario
        wrong = [f"{one.engine}: {one.error}" for one in found if one.error]
        if wrong:
            print(f"{scenario:10} {'; '.join(wrong)}")
            continue
        ratios[scenario] = ratio_of(found)
        old = before.get("ratios", {}).get(scenario)
        print(f"{scenario:10}{ratios[scenario]:8.3f}  {verdict(old, ratios[scenario])}", flush=True)
    if is_kept:
        line = {"commit": _commit(), "machine": machine(), "ratios": ratios}
        with _KEPT.open("a") as file:
            file.write(json.dumps(line) + "\n")


def ratio_of(found: list[Measured]) -> float:
    """Return our rate over the loop's, the medians of both."""
    ours, plain = (
        next(one for one in found if one.engine == engine).median("events_per_s")
        for engine in _PLAN.engines
    )
    return round(ours / plain, 3)


def verdict(old: float | None, new: float) -> str:
    """Say what became of a ratio."""
    if old is None:
        return "new"
    change = new / old - 1
    if abs(change) <= TOLERANCE:
        return f"as before ({old:.3f}, {change:+.0%})"
    return f"{'FASTER' if change > 0 else 'SLOWER'} ({old:.3f}, {change:+.0%})"


def last_kept() -> dict[str, Any]:
    """Return the last line kept, empty if there is none."""
    lines = _KEPT.read_text().splitlines() if _KEPT.exists() else []
    return dict(json.loads(lines[-1])) if lines else {}


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_KEPT.parent)
    return done.stdout.strip() or "?"
