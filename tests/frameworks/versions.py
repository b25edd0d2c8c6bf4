"""Which openai is here? A test file names the versions it is about, and is skipped under any other.

With AGENTLIGHTNING_EXPECT_OPENAI (`0.28`, `2`, `3`) set, a file about that version fails where it is not installed.
"""

from __future__ import annotations

import os
from importlib import import_module, metadata
from typing import Any

import pytest


def require_openai(*wanted: str) -> Any:
    """The openai module, if it is of one of the wanted versions."""
    installed = _installed()
    if _line(installed) in wanted:
        return import_module("openai")
    reason = f"this file is about openai {' and '.join(wanted)}; installed is {installed or 'none'}"
    if os.environ.get("AGENTLIGHTNING_EXPECT_OPENAI") in wanted:
        raise RuntimeError(f"{reason}, but AGENTLIGHTNING_EXPECT_OPENAI asks for it")
    return pytest.skip(reason, allow_module_level=True)


def _installed() -> str:
    try:
        return metadata.version("openai")
    except metadata.PackageNotFoundError:
        return ""


def _line(version: str) -> str:
    major, _, rest = version.partition(".")
    return f"0.{rest.partition('.')[0]}" if major == "0" else major
