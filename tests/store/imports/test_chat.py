"""Chat logs become live rollouts; a broken line is named, importing again adds nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.store.rollouts import TOOLS, add, asks, assistant, told, user, weather
from tests.store.test_archive import everything

from agentlightning.data.trajectory import Reward
from agentlightning.errors import DataError
from agentlightning.store.archive import ImportReport, import_trajectories
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice
from agentlightning.store.exports.sft import export_sft
from agentlightning.store.imports.chat import read_chat


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_a_conversation_becomes_a_live_rollout_with_a_step_per_answer(tmp_path: Path) -> None:
    messages = [user("Sky in Oslo?"), assistant(None, asks("Oslo")), told("grey"), assistant("Grey.")]
    row = {"messages": messages, "tools": TOOLS, "model": "gpt-5", "reward": 0.9, "reason": "right", "channel": "web"}
    [found] = read_chat(lines(tmp_path / "log.jsonl", {**row, "timestamp": "2026-01-02T03:04:05Z"}))
    assert (found.split, found.input, found.output, found.timestamp) == ("live", "Sky in Oslo?", "Grey.", 1767323045.0)
    assert (found.reward, found.rewards) == (0.9, [Reward(0.9, "right", source="emitted")])
    assert found.metadata == {"channel": "web"} and found.agent_id == "imported"
    assert [len(step.call.messages) for step in found.steps if step.call] == [1, 3]
    assert found.steps[1].reply and found.steps[1].reply.text == "Grey."
    assert found.features and found.features.task_type == "tool_use" and found.features.num_model_calls == 2


def test_importing_again_adds_nothing_and_secrets_stay_out(tmp_path: Path, store: Store) -> None:
    secret = "sk-" + "b2" * 20
    path = lines(tmp_path / "log.jsonl", *({"messages": [user(f"q{n} {secret}"), assistant("a")]} for n in range(3)))

    async def scenario() -> None:
        assert await import_trajectories(store, lambda: read_chat(path)) == ImportReport(3, 0)
        assert await import_trajectories(store, lambda: read_chat(path)) == ImportReport(0, 3)
        assert secret not in str(await everything(store))

    asyncio.run(scenario())


def test_an_exported_training_file_can_be_imported(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, weather("r"))
        await export_sft(store, tmp_path / "sft.jsonl", Choice())

    asyncio.run(scenario())
    [found] = read_chat(tmp_path / "sft.jsonl")
    assert (found.input, found.output, len(found.steps)) == ("Sky in Oslo?", "Grey.", 2)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"prompt": "x"}', r"line 2: no \"messages\".*found keys \['prompt'\]"),
        ('{"messages": [{"role": "robot"}]}', "line 2: message 1 has no role of assistant"),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "line 2: no user message with text"),
        ('{"messages": [{"role": "user", "content": "x"}], "reward": "high"}', "the reward must be a number"),
        ('{"messages": [{"role": "user", "content": "x"}], "metadata": 3}', "metadata must be an object"),
        ('{"messages": ', "line 2: .*Nothing was imported"),
        ("[1]", "line 2: expected a JSON object, found list"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_imported(tmp_path: Path, store: Store, row: str, says: str) -> None:
    path = lines(tmp_path / "log.jsonl", {"messages": [user("q"), assistant("a")]})
    path.write_text(path.read_text() + row + "\n")

    async def scenario() -> None:
        with pytest.raises(DataError, match=says):
            await import_trajectories(store, lambda: read_chat(path))
        assert await everything(store) == []

    asyncio.run(scenario())
