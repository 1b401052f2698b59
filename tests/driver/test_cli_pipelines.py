"""``streamapp pipelines``: what is declared, and files that are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("streamapp")
APP = """
import streamapp

app = streamapp.App("shop")
app.Table("users", key_type=str, value_type=str)
flow = app.pipeline("by-kind").source("sales").filter(len).group_by("kind")
flow.window(streamapp.tumbling("1m")).aggregate(n=streamapp.count()).to(table="kinds")
app.load_pipelines("pipelines")
"""
COPY = """
pipeline: {name}
source: {{topic: sales, key: str}}
steps:
  - filter: amount > 0
  - join_table: users
    combine: '{combine}'
  - to: {{topic: {name}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pipelines").mkdir()
    good = COPY.format(name="named", combine="right")
    (tmp_path / "pipelines" / "named.yaml").write_text(good)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMAPP_") and k != "PORT"}
    return subprocess.run(
        [COMMAND, "pipelines", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=kept,
        timeout=60,
        check=False,
    )


def test_stages_are_listed(folder: Path) -> None:
    shown = run(folder, "--json")
    assert shown.returncode == 0, shown.stderr
    stages = json.loads(shown.stdout)
    assert [row["stage"] for row in stages] == ["by-kind", "by-kind-2", "named"]
    regrouped = "shop-by-kind-kind-repartition"
    assert [(row["reads"], row["steps"], row["writes"]) for row in stages] == [
        (["sales"], ["filter", "keyby", "group-by"], [regrouped]),
        ([regrouped], ["windows", "table"], ["kinds"]),
        (["sales"], ["filter", "join-table", "topic"], ["named"]),
    ]
    assert {row["state"] for row in stages} == {"new"}
    assert [row["file"] for row in stages] == [None, None, "pipelines/named.yaml"]


def test_files_are_checked_and_every_mistake_is_told(folder: Path) -> None:
    (folder / "new.yaml").write_text(COPY.format(name="new", combine="left"))
    (folder / "bad.yaml").write_text(COPY.format(name="bad", combine="right +"))
    (folder / "worse.yaml").write_text("pipelne: worse\nsteps: 5\n")
    checked = run(folder, "check", "bad.yaml", "new.yaml", "worse.yaml", "pipelines")
    good = "new.yaml: new: good\npipelines/named.yaml: named: good\n"
    assert (checked.returncode, checked.stdout) == (1, good)
    told = checked.stderr.splitlines()
    assert told[0].startswith("bad.yaml:6: steps[1].join_table: 'right +' is no expression")
    assert {line.partition(": ")[0] for line in told[1:]} == {"worse.yaml:1", "worse.yaml:2"}
    (folder / "pipelines" / "worse.yaml").write_text("pipelne: worse\n")
    broken = run(folder, "check", "new.yaml")
    assert broken.returncode == 1
    assert broken.stderr.startswith("pipelines/worse.yaml:1: ")


@pytest.mark.parametrize("before", [True, False])
def test_files_are_checked_with_the_application_that_is_named(folder: Path, before: bool) -> None:
    """Before ``check`` it was taken, and not used."""
    (folder / "app.py").rename(folder / "shop.py")
    (folder / "new.yaml").write_text(COPY.format(name="new", combine="left"))
    of = ["-A", "shop"]
    checked = run(folder, *of * before, "check", *of * (not before), "new.yaml")
    assert (checked.returncode, checked.stdout) == (0, "new.yaml: new: good\n"), checked.stderr


def test_files_of_which_a_worker_would_refuse_the_names_are_not_good(folder: Path) -> None:
    """The second stage of the pipeline of ``app.py`` is called so."""
    (folder / "new.yaml").write_text(COPY.format(name="by-kind-2", combine="left"))
    checked = run(folder, "check", "new.yaml")
    assert (checked.returncode, checked.stdout) == (1, "new.yaml: by-kind-2: good\n")
    assert "Pipeline by-kind and Pipeline by-kind-2 both have stage by-kind-2" in checked.stderr


def test_files_are_checked_where_there_is_no_application(folder: Path) -> None:
    (folder / "app.py").unlink()
    checked = run(folder, "check", "pipelines")
    assert checked.returncode == 1
    assert "there is no table users" in checked.stderr
