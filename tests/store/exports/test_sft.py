"""Training examples come from the best rollouts only, in the shape trainers accept; the rest is listed with reasons."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import TypeAdapter
from tests.store.rollouts import add, assistant, model, rollout, user, weather

from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport
from agentlightning.store.exports.sft import examples, export_sft


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def reasons(report: ExportReport) -> dict[str, str]:
    return {item.rollout: item.reason for item in report.left_out}


def test_only_good_rollouts_are_taken_and_the_others_are_listed_with_the_reason(tmp_path: Path, store: Store) -> None:
    async def scenario() -> ExportReport:
        await add(
            store,
            weather("good"),
            weather("same as good"),
            weather("second best", "It is grey.", 0.9),
            weather("bad", "Blue.", 0.0),
            weather("unjudged", "Hm.", None),
            weather("held out", "Rain.", split="test"),
            weather("crashed", "Fog.", status="failed", error="boom"),
            weather("stopped", "Snow.", status="stopped"),
            rollout("silent", task="other", reward=1.0),
        )
        return await export_sft(store, tmp_path / "sft.jsonl", Choice())

    report = asyncio.run(scenario())
    assert (report.num_rows, report.num_rollouts) == (1, 9)
    assert reasons(report) == {
        "same as good": "the same as another rollout",
        "second best": "not among the 1 best of its task",
        "bad": "reward under 0.5",
        "unjudged": "nothing judged it",
        "held out": "split test is kept for measuring",
        "crashed": "the rollout ended as failed",
        "stopped": "it was stopped by us, not ended by the agent",
        "silent": "no answer of a model in it",
    }
    assert {row["rollout"] for row in written(tmp_path / "sft.jsonl.left_out.jsonl")} == set(reasons(report))


def test_openai_examples_have_messages_tools_and_arguments_as_text(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, weather("r"))
        await export_sft(store, tmp_path / "sft.jsonl", Choice())

    asyncio.run(scenario())
    [row] = written(tmp_path / "sft.jsonl")
    assert row.keys() == {"messages", "tools"}
    call = row["messages"][2]
    assert call["content"] is None and json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}
    assert row["messages"][3] == {"role": "tool", "content": "grey", "tool_call_id": "c1"}
    assert row["messages"][-1] == {"role": "assistant", "content": "Grey."}


def test_trl_examples_have_arguments_as_mappings_and_no_weights() -> None:
    steps = [model("r", 0, [user("a"), assistant("earlier"), user("b")], assistant("now"))]
    [row] = examples(weather("r"), "trl")
    assert row["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert all("weight" not in m for m in examples(rollout("r", steps=steps), "trl")[0]["messages"])


def test_answers_that_were_not_given_here_weigh_nothing_and_each_answer_is_learned_once() -> None:
    question = [user("q")]
    steps = [
        model("r", 0, question, assistant("one")),
        model("r", 1, [*question, assistant("one"), user("more")], assistant("two")),
        model("r", 2, [*question, assistant("one"), user("other")], assistant("three")),
        model("r", 3, [user("demo"), assistant("shown"), user("q")], assistant("four")),
    ]
    found = examples(rollout("r", steps=steps))
    learned = [m["content"] for row in found for m in row["messages"] if m["role"] == "assistant" and "weight" not in m]
    assert sorted(learned) == ["four", "one", "three", "two"]
    assert {"role": "assistant", "content": "shown", "weight": 0} in found[-1]["messages"]


def test_best_of_n_and_one_agent_only(tmp_path: Path, store: Store) -> None:
    def both(id: str, answer: str, reward: float) -> Any:
        steps = [
            model(id, 0, [user("q")], assistant(answer), agent="writer"),
            model(id, 1, [user(answer)], assistant("fine"), agent="critic"),
        ]
        return rollout(id, output=answer, reward=reward, steps=steps)

    async def scenario() -> None:
        await add(store, both("a", "A", 0.7), both("b", "B", 0.9), both("c", "C", 0.8))
        await export_sft(store, tmp_path / "sft.jsonl", Choice(), best_of=2, agents=["writer"])

    asyncio.run(scenario())
    assert [row["messages"][-1]["content"] for row in written(tmp_path / "sft.jsonl")] == ["B", "C"]


def test_messages_are_what_openais_own_types_allow() -> None:
    [row] = examples(weather("r"))
    assert TypeAdapter(list[ChatCompletionMessageParam]).validate_python(row["messages"], strict=True)
    assert TypeAdapter(list[ChatCompletionToolParam]).validate_python(row["tools"], strict=True)
