"""`agentlightning dashboard` refuses what would show a store to the wrong people, or none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from agentlightning.cli.dashboard import dashboard
from agentlightning.errors import ConfigError
from agentlightning.store.open import open_store


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store at"):
        CliRunner().invoke(dashboard, ["--store", str(tmp_path / "none")], catch_exceptions=False)
    assert not (tmp_path / "none").exists()


def test_other_machines_may_look_only_with_a_token_somebody_chose(tmp_path: Path) -> None:
    asyncio.run(open_store(str(tmp_path)).close())
    with pytest.raises(ConfigError, match="needs a --token"):
        CliRunner().invoke(dashboard, ["--store", str(tmp_path), "--host", "0.0.0.0"], catch_exceptions=False)
