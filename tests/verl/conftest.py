"""These tests need verl, in an environment of its own: `make test-verl`. There they may not skip."""

from __future__ import annotations

import importlib.util
import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("verl") is not None or os.environ.get("AGENTLIGHTNING_EXPECT_VERL"):
        return
    here = os.path.dirname(__file__)
    for item in items:
        if str(item.path).startswith(here + os.sep):
            item.add_marker(pytest.mark.skip(reason="verl is not installed"))
