"""A model of what people prefer, trained on their choices, for the rollouts nobody has rated. It must earn its trust.

A Bradley–Terry head on an engine's adapter (Christiano et al., arXiv 1706.03741; Stiennon et al., 2009.01325). It is
used only while its agreement with people, on tasks it was not trained on, is better than guessing for sure, and it asks
for fresh human checks as the policy moves away from what was rated: a policy that is trained against a fixed reward
model learns its mistakes (Gao et al., 2210.10760). The other guard, keeping the policy near its start (KL), is the RL
algorithm's.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.call import Message
from agentlightning.data.sample import Sample
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.engine.base import Engine, Learning, Pair
from agentlightning.errors import ConfigError, DataError
from agentlightning.rewards.calibration import Agreement, agreement
from agentlightning.rewards.judge import output_of


class RewardModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How it learns, and when it is trusted."""

    adapter: str = "reward-model"
    epochs: int = 2
    batch_size: int = 16
    """Pairs in an optimiser step."""
    learning_rate: float = 1e-4
    held_out: float = 0.25
    """Share of the tasks whose pairs are not trained on, but tell how far it can be trusted."""
    min_held_out_tasks: int = 5
    max_updates: int = 50
    """Updates of the policy after which people are asked again."""
    seed: int = 0


class Preferred(msgspec.Struct, frozen=True):
    """Two rollouts of one task, of which people preferred the first."""

    better: Trajectory
    worse: Trajectory


class Trust(msgspec.Struct, frozen=True):
    """What is known about the model: how often it agrees with people, and since when nobody has asked."""

    held_out: Agreement
    num_pairs: int
    """It was trained on."""
    centre: float
    """Its mean rating of what it was trained on; a rollout like that gets 0.5."""
    num_updates: int = 0
    """Of the policy, since people were last asked."""

    @property
    def is_earned(self) -> bool:
        return self.held_out.low > 0.5

    def describe(self) -> str:
        """For the run's log."""
        verdict = "" if self.is_earned else "; this cannot be told from guessing, so it is not used"
        return f"trained on {self.num_pairs} pairs, it agrees with people on {self.held_out} it has not seen{verdict}"


class RewardModel:
    """Trains on pairs, says how far it agrees with people, and rates the rest while it may be trusted."""

    def __init__(self, engine: Engine, settings: RewardModelSettings | None = None, trust: Trust | None = None) -> None:
        self.engine = engine
        self.settings = settings or RewardModelSettings()
        self._weights = self.settings.adapter
        """What rates: the adapter as it is, or a version that was read."""
        self.trust = trust
        """Kept by whoever checkpoints the adapter, and given back with it."""

    async def train(self, pairs: Sequence[Preferred]) -> Trust:
        """Learn from the pairs of most tasks, and measure the agreement on those of the others.

        DataError when the tasks are too few to hold some out. The agreement may turn out too low for use: `score` then
        refuses. Training goes on from where the adapter is.
        """
        learned, held_out = self._split(pairs)
        self._weights = self.settings.adapter
        given = [Pair(better=await self._sample(pair.better), worse=await self._sample(pair.worse)) for pair in learned]
        chance = random.Random(self.settings.seed)
        for _ in range(self.settings.epochs):
            chance.shuffle(given)
            num_steps = max(1, round(len(given) / self.settings.batch_size))
            learning = Learning(
                loss="reward_model", learning_rate=self.settings.learning_rate, num_minibatches=num_steps
            )
            await self.engine.update(given, adapter=self.settings.adapter, learning=learning)
        seen = await self._rated([sample for pair in given for sample in (pair.better, pair.worse)])
        measured = await self._agreement(held_out)
        self.trust = Trust(held_out=measured, num_pairs=len(given), centre=math.fsum(seen) / len(seen))
        return self.trust

    async def save(self, folder: Path) -> None:
        """Write what rates. What is known about it, `trust`, is kept by whoever keeps the folder."""
        await self.engine.save(await self.engine.snapshot(self.settings.adapter), folder)

    async def restore(self, folder: Path, trust: Trust) -> None:
        """Rate as the model that was saved, and trust it as far as it was trusted. Nothing is trained."""
        self._weights = await self.engine.load(folder)
        self.trust = trust

    async def check(self, pairs: Sequence[Preferred]) -> Trust:
        """Fresh human choices between rollouts of the policy as it is now: is the model still right about them?

        They replace the measured agreement, and the count of updates begins anew. Train again to learn from them.
        """
        trust = self._trained()
        if not pairs:
            raise DataError("a check of the reward model needs fresh choices of people between the policy's rollouts.")
        measured = await self._agreement(pairs)
        self.trust = msgspec.structs.replace(trust, held_out=measured, num_updates=0)
        return self.trust

    def policy_updated(self) -> None:
        """To be told after each update of the policy that is trained against this model."""
        trust = self._trained()
        self.trust = msgspec.structs.replace(trust, num_updates=trust.num_updates + 1)

    @property
    def is_check_due(self) -> bool:
        return self.trust is not None and self.trust.num_updates >= self.settings.max_updates

    async def score(self, trajectories: Sequence[Trajectory], *, is_check_waived: bool = False) -> dict[str, Reward]:
        """Rollout → the chance, 0 to 1, that people prefer it to an average one of those that were rated.

        DataError while the model has not earned trust, or when fresh checks are due, unless whoever asks has told
        people so (`is_check_waived`). Rollouts that were stopped are left out.
        """
        trust = self._trusted(is_check_waived)
        judged = [trajectory for trajectory in trajectories if trajectory.status != "stopped"]
        ratings = await self._rated([await self._sample(trajectory) for trajectory in judged])
        reason = f"as a reward model guesses, which agrees with people on {trust.held_out}"
        return {
            trajectory.id: Reward(_chance(rating - trust.centre), reason, name="reward_model", source="judge")
            for trajectory, rating in zip(judged, ratings, strict=True)
        }

    async def fill(self, rated: Mapping[str, Reward], trajectories: Sequence[Trajectory]) -> dict[str, Reward]:
        """People's rewards where there are some, the model's for the rest."""
        unrated = [trajectory for trajectory in trajectories if trajectory.id not in rated]
        given = {each.id: rated[each.id] for each in trajectories if each.id in rated}
        return {**given, **(await self.score(unrated) if unrated else {})}

    async def questions(self, trajectories: Sequence[Trajectory], num: int = 10) -> list[tuple[Trajectory, Trajectory]]:
        """Pairs to ask people about: in each task what the model likes best and least, the surest first.

        Where a policy exploits the model, it is there that people will disagree with it.
        """
        self._trained()
        by_task: dict[str, list[tuple[float, Trajectory]]] = defaultdict(list)
        for trajectory, rating in zip(
            trajectories, await self._rated([await self._sample(each) for each in trajectories]), strict=True
        ):
            by_task[trajectory.task].append((rating, trajectory))
        spans: list[tuple[float, Trajectory, Trajectory]] = []
        for found in by_task.values():
            best, worst = max(found, key=lambda each: each[0]), min(found, key=lambda each: each[0])
            if best[0] > worst[0]:
                spans.append((best[0] - worst[0], best[1], worst[1]))
        return [(best, worst) for _, best, worst in sorted(spans, key=lambda span: -span[0])[:num]]

    def _split(self, pairs: Sequence[Preferred]) -> tuple[list[Preferred], list[Preferred]]:
        """By task: a model that has seen a task's other answers would look better than it is."""
        if crossed := [pair for pair in pairs if pair.better.task != pair.worse.task]:
            raise DataError(
                f"rollouts {crossed[0].better.id} and {crossed[0].worse.id} are of different tasks. People prefer one "
                "answer to another answer of the same question."
            )
        tasks = sorted({pair.better.task for pair in pairs})
        random.Random(self.settings.seed).shuffle(tasks)
        wanted = max(self.settings.min_held_out_tasks, round(self.settings.held_out * len(tasks)))
        if len(tasks) < 2 * wanted:
            raise DataError(
                f"people's choices cover {len(tasks)} tasks. To train a reward model and to tell whether it can be "
                f"trusted takes at least {2 * wanted}: ask about more tasks, or use DPO, which needs no reward model."
            )
        apart = set(tasks[:wanted])
        learned = [pair for pair in pairs if pair.better.task not in apart]
        return learned, [pair for pair in pairs if pair.better.task in apart]

    async def _agreement(self, pairs: Sequence[Preferred]) -> Agreement:
        """Ties count half; the interval takes tasks, not pairs, for independent."""
        samples = [await self._sample(each) for pair in pairs for each in (pair.better, pair.worse)]
        ratings = await self._rated(samples)
        same = sum(_won(better, worse) for better, worse in zip(ratings[::2], ratings[1::2], strict=True))
        return agreement(same, len(pairs), len({pair.better.task for pair in pairs}))

    async def _rated(self, samples: Sequence[Sample]) -> list[float]:
        ratings = await self.engine.rate(samples, adapter=self._weights)
        if not all(math.isfinite(rating) for rating in ratings):
            raise DataError("the reward model rates a rollout with no finite number. Lower its learning_rate.")
        return ratings

    async def _sample(self, trajectory: Trajectory) -> Sample:
        return await self.engine.encode(as_conversation(trajectory), agent=self.settings.adapter)

    def _trained(self) -> Trust:
        if self.trust is None:
            raise ConfigError("the reward model has not been trained. Call train with people's choices first.")
        return self.trust

    def _trusted(self, is_check_waived: bool) -> Trust:
        trust = self._trained()
        if not trust.is_earned:
            raise DataError(
                f"the reward model is not used: it agrees with people on {trust.held_out}, and an interval that "
                "includes 50% is no better than guessing. Collect more choices, or use DPO on those there are."
            )
        if self.is_check_due and not is_check_waived:
            raise DataError(
                f"the policy was updated {trust.num_updates} times since people last checked the reward model, and may "
                "have learned its mistakes. Ask people about `questions(rollouts)`, and hand their choices to `check`."
            )
        return trust


def as_conversation(trajectory: Trajectory) -> list[Message]:
    """What the model reads: the task's input, and the answer."""
    return [
        {"role": "user", "content": _text(trajectory.input)},
        {"role": "assistant", "content": _text(output_of(trajectory)) or "(no answer)"},
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def _chance(difference: float) -> float:
    """The logistic function, without overflow."""
    small = math.exp(-abs(difference))
    return 1 / (1 + small) if difference >= 0 else small / (1 + small)


def _won(better: float, worse: float) -> float:
    return 1.0 if better > worse else 0.5 if better == worse else 0.0
