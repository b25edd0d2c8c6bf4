"""A pair is two answers to the very same messages, the first from the better rollout."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.store.exports.test_sft import reasons, written
from tests.store.rollouts import SYSTEM, add, assistant, model, rollout, user, weather

from agentlightning.data.preferences import preferences
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport
from agentlightning.store.exports.preferences import export_preferences


def test_better_and_worse_rollouts_of_a_task_make_a_pair_for_trl_and_for_openai(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, weather("worse", "Blue.", 0.0), weather("better", "Grey.", 1.0))
        await export_preferences(store, tmp_path / "trl.jsonl", Choice())
        await export_preferences(store, tmp_path / "openai.jsonl", Choice(), flavor="openai")

    asyncio.run(scenario())
    [row] = written(tmp_path / "trl.jsonl")
    assert row.keys() == {"prompt", "chosen", "rejected", "tools"}
    assert [m["role"] for m in row["prompt"]] == ["system", "user", "assistant", "tool"]
    assert (row["chosen"], row["rejected"]) == ([assistant("Grey.")], [assistant("Blue.")])
    assert row["prompt"][2]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}

    [row] = written(tmp_path / "openai.jsonl")
    assert row.keys() == {"input", "preferred_output", "non_preferred_output"}
    assert row["input"].keys() == {"messages", "tools"}
    assert (row["preferred_output"], row["non_preferred_output"]) == ([assistant("Grey.")], [assistant("Blue.")])


def test_best_meets_worst_and_rollouts_without_a_partner_are_listed(tmp_path: Path, store: Store) -> None:
    async def scenario() -> ExportReport:
        await add(
            store,
            *(weather(f"r{n}", f"Answer {n}.", n / 10) for n in (0, 4, 5, 10)),
            weather("alone", task="lonely"),
            *(weather(f"tie{n}", f"T{n}", 1.0, task="tie") for n in range(2)),
            weather("validation", split="validation"),
        )
        return await export_preferences(store, tmp_path / "dpo.jsonl", Choice(), min_margin=0.2)

    report = asyncio.run(scenario())
    [row] = written(tmp_path / "dpo.jsonl")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("Answer 10.", "Answer 0.")
    assert reasons(report) == {
        "validation": "split validation is kept for measuring",
        "r4": "no partner left whose answer parts from it after the same messages",
        "r5": "no partner left whose answer parts from it after the same messages",
        "alone": "the only judged rollout of its task",
        "tie0": "all rewards of its task lie within 0.2",
        "tie1": "all rewards of its task lie within 0.2",
    }


def test_answers_to_different_messages_make_no_pair() -> None:
    one = rollout("1", steps=[model("1", 0, [SYSTEM, user("q")], assistant("a"))])
    two = rollout("2", steps=[model("2", 0, [{**SYSTEM, "content": "Be long."}, user("q")], assistant("b"))])
    assert preferences(one, two) == []
    assert preferences(one, one) == []
    empty = rollout("3", steps=[model("3", 0, [SYSTEM, user("q")], assistant(""))])
    assert preferences(one, empty) == []
