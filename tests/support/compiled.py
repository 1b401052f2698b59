"""The compiled reader of plain records: tests need it, and a laptop may be without a compiler."""

from __future__ import annotations

import os

import pytest

from streamapp.serde import columnar

#: Skips a test where the reader is not built; in CI it must be.
needs_reader = pytest.mark.skipif(
    not columnar.IS_COMPILED and os.environ.get("CI") != "true",
    reason="streamapp.serde.plain_json is not built: install a C compiler, then pip install -e .",
)
