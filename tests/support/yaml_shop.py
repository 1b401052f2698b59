"""What the YAML pipelines of tests name: records, functions, topics."""

from __future__ import annotations

import streamapp


class Sale(streamapp.Record):
    user: str
    amount: int
    ts: int
