"""A secret that got into a store leaves it in no format, and gets into none by an import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.store.rollouts import add, assistant, model, rollout, user
from tests.store.test_archive import everything

from agentlightning.data.call import Reply
from agentlightning.data.trajectory import Trajectory
from agentlightning.store.archive import export_jsonl, import_jsonl
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice
from agentlightning.store.exports.otlp import export_otlp_file
from agentlightning.store.exports.parquet import export_parquet, read_parquet
from agentlightning.store.exports.preferences import export_preferences
from agentlightning.store.exports.sft import export_sft

SECRET = "sk-" + "c3" * 20


def leaky(id: str, answer: str, reward: float) -> Trajectory:
    said = f"{answer}, your key is {SECRET}"
    step = model(id, 0, [user(f"my key: {SECRET}")], assistant(said), prompt_ids=[7], completion_ids=[8])
    other = Reply(assistant(said), alternatives=[assistant(f"or {SECRET}")])
    steps = [step, msgspec.structs.replace(step, id="s1", index=1, reply=other)]
    return rollout(id, input=f"key {SECRET}", output=said, reward=reward, metadata={"api_key": SECRET}, steps=steps)


@pytest.mark.parametrize(
    "export",
    [
        lambda store, path: export_jsonl(store, path),
        lambda store, path: export_sft(store, path, Choice()),
        lambda store, path: export_preferences(store, path, Choice()),
        lambda store, path: export_otlp_file(store, path, Choice()),
    ],
    ids=["jsonl", "sft", "dpo", "otlp"],
)
def test_no_export_holds_a_secret(
    tmp_path: Path, store: Store, export: Callable[[Store, Path], Awaitable[Any]]
) -> None:
    async def scenario() -> None:
        await add(store, leaky("r1", "Yes", 1.0), leaky("r2", "No", 0.0))
        await export(store, tmp_path / "out")

    asyncio.run(scenario())
    text = (tmp_path / "out").read_text()
    assert SECRET not in text and "[secret]" in text


def test_parquet_holds_no_secret_either(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, leaky("r1", "Yes", 1.0))
        await export_parquet(store, tmp_path / "out.parquet", Choice())

    asyncio.run(scenario())
    [found] = read_parquet(tmp_path / "out.parquet")
    assert SECRET not in str(found) and "[secret]" in str(found) and found.steps[0].prompt_ids is None


def test_an_import_leaves_secrets_outside(tmp_path: Path, store: Store) -> None:
    (tmp_path / "in.jsonl").write_bytes(msgspec.json.encode(leaky("r1", "Yes", 1.0)))

    async def scenario() -> None:
        await import_jsonl(store, tmp_path / "in.jsonl")
        assert SECRET not in str(await everything(store)) and "[secret]" in str(await everything(store))

    asyncio.run(scenario())
