"""The real engine learns by RL: on a small random model, through the trainer, and through a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from tests.algorithms.rl_worlds import LocalSession, Team, killed_after, on_a_loop, said
from tests.models_made_here import save_model

from agentlightning import Trainer, emit_reward, wrap_agent
from agentlightning.algorithms import ALGORITHMS
from agentlightning.data.call import Call
from agentlightning.data.task import Task
from agentlightning.trainer.callbacks import Callback

TINY: dict[str, Any] = {"batch_size": 2, "group_size": 4, "iterations": 3, "evaluate_every": 3, "policy_lr": 3e-3}
TASKS = [Task(id="t0", input="say something"), Task(id="t1", input="say more")]


def engine(folder: Path, **options: Any) -> Any:
    from agentlightning.engine.torch.engine import TorchEngine

    return TorchEngine(folder, seed=0, num_threads=1, **options)


class Brief:
    """An engine whose answers have four tokens at most."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def sample(self, call: Call, **options: Any) -> Any:
        return self._engine.sample(msgspec.structs.replace(call, params=call.params | {"max_tokens": 4}), **options)


async def low_ids(team: Team, task: Task) -> float:
    """The share of sampled ids in the lower half of the vocabulary: a reward that every answer has some of."""
    team.engine = Brief(team.engine)
    await team.ask("solo", [said("user", str(task.input))])
    ids = (team.steps[-1].reply and team.steps[-1].reply.completion_ids) or []
    return sum(token < 190 for token in ids) / max(1, len(ids))


@pytest.mark.parametrize("method", ["grpo", "ppo", "reinforce++"])
@on_a_loop
async def test_a_killed_training_of_a_real_model_goes_on(tmp_path: Path, method: str) -> None:
    save_model(tmp_path / "model")
    rl = ALGORITHMS.load("rl")(**TINY, method=method)
    first = LocalSession(low_ids, tmp_path / "run", engine=engine(tmp_path / "model"), tasks=TASKS)
    with killed_after(first, 2):
        await rl.train(first)
    state, before = first.checkpoints[-1], await first.engine.snapshot("solo")
    await first.engine.close()
    again = LocalSession(low_ids, tmp_path / "run", engine=engine(tmp_path / "model"), tasks=TASKS, restored=state)
    await rl.train(again)
    assert "goes on after iteration 2" in again.words and again.checkpoints[-1]["num_updates"] == 3
    sampled = [policy.weights["solo"] for policy in again.policies.values() if policy.weights]
    assert before in sampled, "it went on from the very weights it had"
    assert await again.engine.snapshot("solo") == again.checkpoints[-1]["best"]["solo"]
    await again.engine.close()


def test_the_trainer_runs_an_agent_on_the_engine_and_gives_its_step_rewards_to_learning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "model")
    monkeypatch.setenv("OPENAI_API_KEY", "unused")

    def agent(question: str) -> str:
        client = openai.OpenAI()
        messages: list[Any] = [{"role": "user", "content": question}]
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=messages, max_tokens=3)
        text = answer.choices[0].message.content or ""
        emit_reward(len(text) / 100, step=True)
        emit_reward(sum(map(ord, text)) % 7 / 7)
        client.close()
        return text

    seen: list[dict[str, float]] = []

    class Listener(Callback):
        def on_log(self, stage: str, text: str, metrics: Any) -> None:
            seen.append(dict(metrics))

    trainer = Trainer(
        agent=wrap_agent(agent),
        algorithm=[{"name": "grpo", "params": TINY | {"credit": "steps", "iterations": 2}}],
        models={"policy": str(tmp_path / "model")},
        config={"engine": {"name": "torch", "device": "cpu"}},
        max_epochs=1,
        data_dir=tmp_path / "data",
        output_dir=tmp_path / "out",
        callbacks=[Listener()],
    )
    result = trainer.train(tasks=[f"question {number}" for number in range(12)])
    learned = [metrics for metrics in seen if "grad_norm" in metrics]
    assert len(learned) == 2 and all(metrics["num_tokens"] > 0 for metrics in learned)
    rewards = [reward for run in _trajectories(tmp_path) for reward in run["rewards"]]
    assert {reward.get("step") for reward in rewards} == {0, None}
    assert result.verdict in ("improved", "not shown", "kept original")


def _trajectories(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "trajectories.jsonl").read_text().splitlines()]
