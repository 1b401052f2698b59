"""What holds for all tests: how many random examples, and which tests never run side by side."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=500,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # a shared machine is slow at times
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=10_000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "dev")
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that kill processes on one test worker, so that they do not starve each other."""
    for item in items:
        if item.get_closest_marker("crash"):
            item.add_marker(pytest.mark.xdist_group("crash"))
