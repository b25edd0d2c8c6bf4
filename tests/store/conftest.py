"""A store to read from and one to write to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentlightning.store.base import Store
from agentlightning.store.open import open_store


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store("memory:")
    yield opened
    asyncio.run(opened.close())


@pytest.fixture
def other() -> Iterator[Store]:
    opened = open_store("memory:")
    yield opened
    asyncio.run(opened.close())
