"""Every back end, by the address it is opened with: a new one is one line here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentlightning.store.base import Store
from agentlightning.store.open import open_store

ADDRESSES: dict[str, Callable[[Path], str]] = {
    "folder": lambda folder: str(folder / "runs"),
    "sqlite address": lambda folder: f"sqlite:///{folder / 'runs.sqlite3'}",
    "memory": lambda folder: "memory:",
}


@pytest.fixture(params=ADDRESSES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An open, empty store."""
    opened = open_store(ADDRESSES[request.param](tmp_path))
    yield opened
    asyncio.run(opened.close())
