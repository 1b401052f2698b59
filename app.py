"""The application: its settings, and the agents and tables that it is made of.

Run ``faust -A app worker -l info`` in this folder, or ``scripts/run``.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import streamapp
from streamapp.settings import load_settings

settings = load_settings()

app = streamapp.App(
    "shop",
    broker=settings.broker,
    datadir=settings.datadir,
    web_host=settings.web_host,
    web_bind=settings.web_host,
    web_port=settings.web_port,
    commit_interval=timedelta(milliseconds=settings.commit_interval),
    checkpoint_interval=timedelta(milliseconds=settings.checkpoint_interval),
    checkpoints_kept=settings.checkpoints_kept,
    cache_size=settings.cache_size,
    batch_max=settings.batch_max,
    standbys=settings.standbys,
    guarantee=settings.guarantee,
)

# Agents import the app from here, so it must be there before they are.
for name in ("metrics", "windows", "alerting", "cdc", *(["demo"] if settings.demo else [])):
    import_module(f"agents.{name}")
if settings.pipelines_dir is not None:
    app.load_pipelines(settings.pipelines_dir)
