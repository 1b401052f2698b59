"""The application that is measured end to end: ``faust -A streamapp.bench.worker_app worker``.

Which scenario over which broker is told in BENCH_PLAN; all settings are the defaults. When the file
``ask`` appears in its folder it writes the checksum of its table to ``answer``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import streamapp
from streamapp.bench.engines.ours import declare, rows_of_table
from streamapp.bench.scenarios import digest

plan = json.loads(os.environ["BENCH_PLAN"])
folder = Path(plan["folder"])
app = streamapp.App(
    plan["app"],
    broker=plan["broker"],
    datadir=folder,
    topic_partitions=plan["partitions"],
    web_enabled=False,
)
declare(app, plan["scenario"], plan["topic"])


@app.timer(0.1)
async def tell() -> None:
    """Answer; once."""
    if (folder / "ask").exists() and not (folder / "answer").exists():
        rows = dict(app.tables["results"].items())
        part = folder / "part"
        part.write_text(digest(rows_of_table(plan["scenario"], rows)))
        part.rename(folder / "answer")
