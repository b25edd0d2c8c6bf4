"""Supervised fine-tuning: imitate demonstrations from a file, or the agent's own best rollouts (rejection sampling).

Only the target agent's own tokens are learned. Rollouts that the engine sampled bring their token ids; conversations
from elsewhere are encoded through the model's chat template. Who was left out, and why, is written into the stage's
folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from pydantic import Field

from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.algorithms.fitting import FittingConfig, Item, engine_of, fit
from agentlightning.data.conversations import conversations, is_answer
from agentlightning.data.features import SUCCESS_REWARD
from agentlightning.data.forest import merge
from agentlightning.data.resource import Policy
from agentlightning.data.sample import Sample
from agentlightning.data.selection import LeftOut, Selection, best, judged
from agentlightning.data.trajectory import Trajectory
from agentlightning.engine.base import Engine
from agentlightning.errors import DataError


class SFTConfig(FittingConfig):
    """Settings of `sft`."""

    data: Path | None = None
    """Demonstrations: a JSONL file of `{"messages": […], "tools": […]}` (answers with `weight: 0` are not learned). The
    agent's own best rollouts when not given."""
    min_reward: float = SUCCESS_REWARD
    """A rollout with less is not learned from."""
    rollouts_per_task: int = Field(default=4, ge=1)
    """How often each training task is run to choose from."""
    best_of: int = Field(default=1, ge=1)
    """Most rollouts of one task that are learned from, so that easy tasks do not crowd out hard ones."""
    temperature: float | None = Field(default=1.0, ge=0)
    """Of those runs, so that they differ. None: the agent's own."""
    use_live: bool = True
    """Learn from rollouts of split `live`, too."""


class CrossEntropy:
    """Mean negative log-likelihood of a trained token."""

    name = "cross_entropy"

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    async def held_back(self, engine: Engine, items: Sequence[Item], weights: str) -> float:
        samples = [item for item in items if isinstance(item, Sample)]
        scores = await engine.score(samples, weights=weights)
        return -sum(map(sum, scores)) / max(1, sum(sample.num_sampled for sample in samples))


class SFT(BaseAlgorithm[SFTConfig]):
    """Imitates what is good; keeps the weights only of epochs after which the agent succeeds more often."""

    name: ClassVar[str] = "sft"
    Config: ClassVar[type[AlgorithmConfig]] = SFTConfig
    needs_engine: ClassVar[bool] = True
    resumes_from_checkpoint: ClassVar[bool] = True

    async def train(self, session: Session) -> Policy:
        """Raises DataError when there is nothing to learn from, saying what was left out and what to change."""
        engine = engine_of(session)
        runs = [] if self.config.data else await self._own_best(session)
        policy = session.policy
        for agent in session.agents:
            if self.config.data is not None:
                samples = await demonstrations(engine, self.config.data, agent)
            else:
                samples = [s for t in runs for s in await samples_of(engine, t, agent)]
            session.log(f"{agent}: learns from {len(samples)} samples", num_samples=len(samples))
            policy = await fit(session, agent, samples, start=policy, loss=CrossEntropy(), config=self.config)
        return policy

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int | None:
        own = 0 if self.config.data else num_training * self.config.rollouts_per_task
        return own + num_validation * self.config.epochs

    async def _own_best(self, session: Session) -> list[Trajectory]:
        hot = session.policy
        if self.config.temperature is not None:
            hot = heated(hot, session.agents, self.config.temperature)
        groups = await session.rollout(session.training_tasks, policy=hot, n=self.config.rollouts_per_task)
        runs = [trajectory for group in groups for trajectory in group.trajectories]
        runs += _in_order(t for t in session.trajectories({"split": "train"}) if t.policy_id == session.policy.id)
        if self.config.use_live:
            runs += session.trajectories({"split": "live"})
        selection = best(judged(runs), min_reward=self.config.min_reward, best_of=self.config.best_of)
        _report(session, selection, len(runs))
        if not selection.kept:
            raise DataError(_nothing_good(runs, self.config.min_reward))
        return selection.kept


def _in_order(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """Not as they happened to end, but the same in every run."""
    return sorted(trajectories, key=lambda t: (t.task, t.stage, t.draw))


def heated(policy: Policy, agents: Sequence[str], temperature: float) -> Policy:
    """The policy with its agents sampled at a temperature."""
    hot = {agent: {**policy.sampling.get(agent, {}), "temperature": temperature} for agent in agents}
    return msgspec.structs.replace(policy, sampling=policy.sampling | hot)


async def samples_of(engine: Engine, trajectory: Trajectory, agent: str) -> list[Sample]:
    """What one agent said in a rollout, ready to be learned: by its ids, else through the chat template."""
    steps = [s for s in trajectory.model_steps if s.agent == agent and s.reply is not None and not s.error]
    if steps and all((s.completion_ids or (s.reply and s.reply.completion_ids)) is not None for s in steps):
        return merge(trajectory, [agent]).samples
    found = [c for c in conversations(trajectory, [agent]) if is_answer(c.messages[-1])]
    encoded = [await engine.encode(c.messages, c.tools, agent=agent, learned=c.answered) for c in found]
    return [msgspec.structs.replace(sample, rollout_id=trajectory.id) for sample in encoded]


async def demonstrations(engine: Engine, path: Path, agent: str) -> list[Sample]:
    """The conversations of a file as samples. DataError, naming the line, for one that is none."""
    samples: list[Sample] = []
    for number, messages, tools in read_demonstrations(path):
        learned = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("weight", 1)]
        plain = [{key: value for key, value in m.items() if key != "weight"} for m in messages]
        sample = await engine.encode(plain, tools, agent=agent, learned=learned)
        samples.append(msgspec.structs.replace(sample, rollout_id=f"{path.name}:{number}"))
    return samples


def read_demonstrations(path: Path) -> list[tuple[int, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Line, messages and tools of each demonstration in a file. DataError, naming the line, for one that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"demonstrations {path} cannot be read: {error.strerror or error}.") from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    found = [(number, *_conversation(line, f"{path} line {number}")) for number, line in numbered]
    if not found:
        raise DataError(f'{path} holds no demonstration. Each line is {{"messages": […]}}, as OpenAI\'s files have it.')
    return found


def _conversation(line: str, place: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    try:
        row: Any = json.loads(line)
        messages: Any = row["messages"]
        roles = [message["role"] for message in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{place} is no demonstration: expected {{"messages": [{{"role": …, "content": …}}]}}.'
        ) from error
    if "assistant" not in roles:
        raise DataError(f"{place} has no assistant message, so there is nothing to imitate.")
    return messages, row.get("tools") or []


def _report(session: Session, selection: Selection, num_runs: int) -> None:
    """The filter's decisions: counts by reason in the log, each of them in a file."""
    reasons = Counter(left.reason for left in selection.left_out)
    told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    session.log(
        f"{len(selection.kept)} of {num_runs} rollouts are good enough to learn from" + (f" ({told})" if told else "")
    )
    session.folder.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(msgspec.to_builtins(left), ensure_ascii=False) for left in _by_task(selection.left_out)]
    (session.folder / "left_out.jsonl").write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def _by_task(left_out: Sequence[LeftOut]) -> list[LeftOut]:
    return sorted(left_out, key=lambda left: (left.task, left.rollout))


def _nothing_good(runs: Sequence[Trajectory], min_reward: float) -> str:
    rewards = [t.reward for t in runs if t.reward is not None]
    top = f"the best of {len(rewards)} had {max(rewards):.2f}" if rewards else "none was judged"
    return (
        f"no rollout reached a reward of {min_reward:g}, so there is nothing good to imitate: {top}. Lower min_reward, "
        "raise rollouts_per_task, improve the prompt first (algorithm: [apo, sft]), or give demonstrations (data: …)."
    )
