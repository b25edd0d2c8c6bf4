"""A small engine that really samples and really learns, and a session that really runs agents on it.

Its model is a table: for each prompt it has met, a preference for each word. Sampling is from their softmax, learning
is the exact gradient of a clipped policy-gradient loss. No neural network: a training takes a fraction of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.algorithms.base import Epoch, Evaluation
from agentlightning.data.call import Call, Message, Reply, message_text
from agentlightning.data.resource import Policy
from agentlightning.data.sample import Sample
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Reward, Step, Trajectory
from agentlightning.engine.base import Learning, Update

WORDS = ["red", "green", "blue", "stop"]
Table = dict[str, list[float]]
DICE: ContextVar[random.Random] = ContextVar("DICE")
"""Of the rollout, so that what is sampled does not depend on what else runs."""


class TableEngine:
    """Answers with one word (or `length` words); learns by the gradient of the ratio-clipped policy gradient."""

    model = "table"
    max_context_tokens = 10_000

    def __init__(self, *, length: int = 1) -> None:
        self.length = length
        self.tables: dict[str, Table] = {}
        self.versions: dict[str, Table] = {"": {}}
        self.values: dict[str, dict[str, float]] = {}
        self.num_steps: dict[str, int] = {}
        self.updates: list[tuple[str, list[Sample], Learning]] = []
        """Every update there was, in order."""

    # -- sampling

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        prompt, dice = ids_of(call.messages), DICE.get()
        temperature = float(call.params.get("temperature", 1e-3))
        table = self.versions[weights]
        chosen: list[int] = []
        logprobs: list[float] = []
        for _ in range(self.length):
            odds = _softmax(_row(table, [*prompt, *chosen]), temperature)
            chosen.append(dice.choices(range(len(WORDS)), odds)[0])
            logprobs.append(math.log(odds[chosen[-1]]))
        text = " ".join(WORDS[i] for i in chosen)
        done: Future[Reply] = Future()
        message = {"role": "assistant", "content": text}
        done.set_result(Reply(message, "stop", prompt_ids=prompt, completion_ids=chosen, logprobs=logprobs))
        return done

    def forget(self, rollout_id: str) -> None: ...

    # -- learning

    async def update(self, samples: Sequence[Sample], *, adapter: str, learning: Learning) -> Update:
        self.updates.append((adapter, list(samples), learning))
        await asyncio.sleep(0)
        if learning.loss == "value":
            return self._learn_values(samples, adapter)
        table = self.tables[adapter]
        rollouts = list(dict.fromkeys(s.rollout_id for s in samples))
        ratios: list[float] = []
        size = math.ceil(len(rollouts) / learning.num_minibatches)
        for start in range(0, len(rollouts), size):
            chosen = set(rollouts[start : start + size])
            ratios += self._step(table, [s for s in samples if s.rollout_id in chosen], len(chosen), learning)
        logs = [math.log(r) for r in ratios]
        kl = sum(r - 1 - x for r, x in zip(ratios, logs, strict=True)) / len(ratios)
        return Update(metrics={"loss": 0.0, "ratio_max": max(ratios), "kl_to_sampler": kl}, num_steps=1)

    def _step(self, table: Table, samples: Sequence[Sample], num_rollouts: int, learning: Learning) -> list[float]:
        temperature = learning.options.get("temperature", 1.0)
        low, high = learning.options.get("clip_low", 0.2), learning.options.get("clip_high", 0.28)
        cap = learning.options["max_weight"] if learning.options["correction"] == "tis" else math.inf
        tokens = {s.rollout_id: 0 for s in samples}
        for s in samples:
            tokens[s.rollout_id] += s.num_sampled
        gradient: Table = {}
        ratios: list[float] = []
        for s in samples:
            assert s.advantages is not None and s.logprobs is not None
            ids = list(s.prompt_ids)
            for token, bit, old, advantage in zip(s.completion_ids, s.mask, s.logprobs, s.advantages, strict=True):
                if bit:
                    odds = _softmax(_row(table, ids), temperature)
                    ratio = odds[token] / math.exp(old)
                    ratios.append(ratio)
                    is_held = (advantage > 0 and ratio > 1 + high) or (advantage < 0 and ratio < 1 - low)
                    share = 0.0 if is_held else min(ratio, cap) * advantage / temperature
                    share /= tokens[s.rollout_id] * num_rollouts
                    row = gradient.setdefault(key_of(ids), [0.0] * len(WORDS))
                    for word in range(len(WORDS)):
                        row[word] += share * ((word == token) - odds[word])
                ids.append(token)
        for key, row in gradient.items():
            mine = table.setdefault(key, [0.0] * len(WORDS))
            table[key] = [v + learning.learning_rate * g for v, g in zip(mine, row, strict=True)]
        return ratios

    def _learn_values(self, samples: Sequence[Sample], adapter: str) -> Update:
        """A running mean of the returns after each prefix."""
        known = self.values.setdefault(adapter, {})
        self.num_steps[adapter] = self.num_steps.get(adapter, 0) + 1
        for s in samples:
            assert s.advantages is not None
            for turn in s.turns:
                key = key_of([*s.prompt_ids, *s.completion_ids[: turn.start]])
                known[key] = known.get(key, 0.0) + 0.2 * (s.advantages[turn.start] - known.get(key, 0.0))
        return Update(metrics={"loss": 0.0}, num_steps=1)

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        return [self.values[adapter].get(key_of([*s.prompt_ids, *s.completion_ids]), 0.0) for s in samples]

    # -- versions

    async def snapshot(self, adapter: str) -> str:
        if adapter in self.values:
            return f"w-values{self.num_steps[adapter]}"
        table = self.tables.get(adapter, {})
        if not table:
            return ""
        version = "w-" + hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:12]
        self.versions[version] = {key: list(row) for key, row in table.items()}
        return version

    async def start_from(self, adapter: str, version: str) -> None:
        self.tables[adapter] = {key: list(row) for key, row in self.versions[version].items()}

    async def save(self, version: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "table.json").write_text(json.dumps(self.versions[version]))

    async def load(self, folder: Path) -> str:
        self.versions[folder.name] = json.loads((folder / "table.json").read_text())
        return folder.name

    async def checkpoint(self, adapter: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = [self.tables.get(adapter), self.values.get(adapter), self.num_steps.get(adapter, 0)]
        (folder / "state.json").write_text(json.dumps(state))

    async def restore(self, adapter: str, folder: Path) -> None:
        table, values, self.num_steps[adapter] = json.loads((folder / "state.json").read_text())
        self.tables[adapter] = table
        if values is not None:
            self.values[adapter] = values


def ids_of(messages: Sequence[Message]) -> list[int]:
    """A prompt's ids: its words, beyond those that can be sampled by a number of their own."""
    text = " ".join(f"{m['role']}: {message_text(m)}" for m in messages)
    return [100 + int(hashlib.sha256(word.encode()).hexdigest()[:6], 16) for word in text.split()]


def key_of(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def _row(table: Mapping[str, list[float]], ids: Sequence[int]) -> list[float]:
    return table.get(key_of(ids), [0.0] * len(WORDS))


def _softmax(row: Sequence[float], temperature: float) -> list[float]:
    top = max(row)
    odds = [math.exp((value - top) / temperature) for value in row]
    return [odd / sum(odds) for odd in odds]


class Team:
    """What an agent in these tests may do: ask its model, and say how it did."""

    def __init__(self, engine: Any, policy: Policy, rollout_id: str) -> None:
        self.engine, self.policy, self.rollout_id = engine, policy, rollout_id
        self.steps: list[Step] = []
        self.rewards: list[Reward] = []

    async def ask(self, agent: str, messages: list[Message]) -> str:
        call = self.policy.apply(Call(agent, "table", messages)).call
        weights = self.policy.weights.get(agent, "")
        reply = await asyncio.wrap_future(self.engine.sample(call, weights=weights, rollout_id=self.rollout_id))
        self.steps.append(
            Step(
                id=f"{self.rollout_id}.{len(self.steps)}",
                rollout_id=self.rollout_id,
                index=len(self.steps),
                kind="model",
                agent=agent,
                started_at=0.0,
                call=call,
                reply=reply,
                policy_id=self.policy.id,
            )
        )
        return reply.text

    def emit(self, value: float, *, name: str = "reward", metric: bool = False, step: bool = False) -> None:
        about = self.steps[-1].index if step else None
        self.rewards.append(Reward(value, name=name, source="emitted", is_metric=metric, step=about))


class LocalSession:
    """A session without a trainer: an async function is the agent, and says what its run was worth (None: nobody can).

    What is sampled depends on seed, policy, task and draw only, so that an interrupted run can be compared with a whole
    one.
    """

    def __init__(
        self,
        play: Callable[[Team, Task], Any],
        folder: Path,
        *,
        engine: Any,
        agents: Sequence[str] = ("solo",),
        tasks: Sequence[Task] = (Task(id="t", input="colour?"),),
        max_epochs: int = 1,
        seed: int = 0,
        restored: Any = None,
    ) -> None:
        self.play, self.folder, self.engine, self.agents = play, folder, engine, list(agents)
        self.training_tasks = self.validation_tasks = list(tasks)
        self.max_epochs, self.seed, self.restored = max_epochs, seed, restored
        self.policy = Policy()
        self.sites: list[Any] = []
        self.is_cross_fitted = False
        self.logged: list[tuple[str, dict[str, float]]] = []
        self.decisions: list[str] = []
        self.checkpoints: list[Any] = []
        self.asked: list[tuple[str, str, int]] = []
        """(policy id, task, draw) of every rollout made."""
        self.policies: dict[str, Policy] = {}
        self._evaluations: dict[str, Evaluation] = {}

    @property
    def words(self) -> str:
        return "\n".join(text for text, _ in self.logged)

    def metric(self, name: str) -> list[float]:
        """A curve."""
        return [metrics[name] for _, metrics in self.logged if name in metrics]

    def epochs(self) -> Iterator[Epoch]:
        for index in range(self.max_epochs):
            tasks = list(self.training_tasks)
            random.Random(f"{self.seed}/{index}").shuffle(tasks)
            yield Epoch(index, tasks)

    async def rollout(
        self, tasks: list[Task], *, policy: Policy | None = None, n: int = 1, draw: int = 0
    ) -> list[Group]:
        chosen = policy or self.policy
        draws = range(draw * n, draw * n + n)
        return [Group(t.id, list(await asyncio.gather(*(self._run(t, chosen, d) for d in draws)))) for t in tasks]

    async def evaluate(self, policy: Policy) -> Evaluation:
        if policy.id not in self._evaluations:
            groups = await self.rollout(self.validation_tasks, policy=policy, n=4)
            scores = {group.task_id: group.mean for group in groups if group.mean is not None}
            self._evaluations[policy.id] = Evaluation(policy.id, scores)
        return self._evaluations[policy.id]

    async def decide(self, candidate: Policy, decision: str, *, parent: Policy, reason: str, **details: Any) -> None:
        self.decisions.append(decision)

    async def checkpoint(self, state: Any) -> None:
        self.checkpoints.append(json.loads(json.dumps(state)))

    def log(self, text: str, *, iteration: int | None = None, **metrics: float) -> None:
        self.logged.append((text, metrics))

    async def _run(self, task: Task, policy: Policy, draw: int) -> Trajectory:
        self.asked.append((policy.id, task.id, draw))
        self.policies[policy.id] = policy
        team = Team(self.engine, policy, f"r-{policy.id}-{task.id}-{draw}")
        DICE.set(random.Random(f"{self.seed}/{team.rollout_id}"))
        reward = await self.play(team, task)
        return Trajectory(
            id=team.rollout_id,
            agent_id="team",
            task=task.id,
            input=task.input,
            reward=reward,
            timestamp=0.0,
            policy_id=policy.id,
            draw=draw,
            steps=team.steps,
            rewards=team.rewards,
        )


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_after(session: LocalSession, num_checkpoints: int) -> Iterator[None]:
    """The block runs until that many checkpoints were written and the next rollout begins, or it ends before."""
    whole = session.play

    async def dying(team: Team, task: Task) -> Any:
        if len(session.checkpoints) >= num_checkpoints:
            raise Killed
        return await whole(team, task)

    session.play = dying
    with contextlib.suppress(Killed):
        yield


def on_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """An async test as pytest wants it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def said(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def replaced(trajectory: Trajectory, **changes: Any) -> Trajectory:
    return msgspec.structs.replace(trajectory, **changes)
