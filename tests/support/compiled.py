"""What is compiled: tests need it, and a laptop may be without a compiler."""

from __future__ import annotations

import os

import pytest

from streamapp.serde import columnar
from streamapp.transport.kafka import runs

#: Skips a test where the reader is not built; in CI it must be.
needs_reader = pytest.mark.skipif(
    not columnar.IS_COMPILED and os.environ.get("CI") != "true",
    reason="streamapp.serde.plain_json is not built: install a C compiler, then pip install -e .",
)
#: The same for the columns of Kafka's messages.
needs_message_columns = pytest.mark.skipif(
    runs.take_run is runs.take_run_in_python and os.environ.get("CI") != "true",
    reason="kafka.message_columns is not built: install a C compiler, then pip install -e .",
)
