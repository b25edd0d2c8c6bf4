"""Every back end, by the place it is opened at: a new one is one line here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import store_servers as servers
from tests.store_servers import Place

from agentlightning.store.base import Store
from agentlightning.store.open import open_store

PLACES: dict[str, Callable[[Path], Place]] = {
    "folder": lambda folder: Place(str(folder / "runs")),
    "sqlite address": lambda folder: Place(f"sqlite:///{folder / 'runs.sqlite3'}"),
    "memory": lambda folder: Place("memory:"),
    "postgres": lambda folder: servers.postgres(),
    "segments": lambda folder: Place(f"segments:///{folder / 'segments'}"),
    "s3": lambda folder: servers.s3(),
    "azure": lambda folder: servers.azure(),
}
if os.environ.get("AGENTLIGHTNING_TEST_GCS"):  # through a proxy and moto, which takes minutes
    PLACES["gcs"] = lambda folder: servers.gcs()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Somewhere a store can be opened; nothing is there yet."""
    found = PLACES[request.param](tmp_path)
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    """An open, empty store."""
    opened = open_store(place.address)
    yield opened
    asyncio.run(opened.close())
