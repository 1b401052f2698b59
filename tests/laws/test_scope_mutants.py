"""The laws of whole events can fail: each seeded mistake is found within a bounded search."""

from __future__ import annotations

from random import Random

import pytest
from support.interleaving import random_history, run_history
from support.scope_mutants import MUTANTS

#: The slowest mutant takes some hundreds.
_RUNS = 4_000


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_breaks_a_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(_RUNS):
        try:
            run_history(random_history(Random(seed)))
        except Exception:  # noqa: BLE001 - a mutant may break in any way
            return
    pytest.fail(f"no law noticed in {_RUNS} runs that {name}")
