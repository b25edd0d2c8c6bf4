"""`reward_model`: rollouts are judged by a model of what people prefer, trained when the run begins.

People's own word counts before the model's. A policy that was not seen before is an update of the policy; after
`max_updates` of them the run asks for fresh choices: it looks in the store for some, and says so when there are none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import DataError
from agentlightning.rewards.base import Services
from agentlightning.rewards.feedback import ratings, read_feedback
from agentlightning.rewards.opinions import Opinions
from agentlightning.rewards.reward_model import Preferred, RewardModel, RewardModelSettings, Trust

_TO_DO = "Rate more (`agentlightning rate RUN --pairs`), or learn from what there is with the algorithm dpo."


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the run's record says of the model, so that a resumed run judges as it did before."""

    trust: Trust
    num_counted: int
    """Updates of the policy when this was written; those since then are what `trust` does not know of."""
    known: list[str]
    """Rollouts people had spoken of by then."""


class LearnedReward:
    """Its settings are those of `RewardModelSettings`."""

    name = "reward_model"

    def __init__(
        self,
        epochs: int = 2,
        batch_size: int = 16,
        learning_rate: float = 1e-4,
        held_out: float = 0.25,
        min_held_out_tasks: int = 5,
        max_updates: int = 50,
        seed: int = 0,
    ) -> None:
        self.settings = RewardModelSettings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            held_out=held_out,
            min_held_out_tasks=min_held_out_tasks,
            max_updates=max_updates,
            seed=seed,
        )

    def bind(self, services: Services) -> JudgedByModel:
        if services.engine is None or services.opinions is None:
            raise DataError(
                "the reward reward_model is trained on an engine of the run's own, and this run has none. Train an "
                "algorithm that learns weights (rl, sft, dpo) with models.policy set, or use reward: human_feedback."
            )
        return JudgedByModel(RewardModel(services.engine, self.settings), services, services.opinions)


class JudgedByModel:
    """The reward in a run. `prepare` is awaited before it judges."""

    name = "reward_model"

    def __init__(self, model: RewardModel, services: Services, opinions: Callable[[], Awaitable[Opinions]]) -> None:
        self.model = model
        self._services = services
        self._opinions = opinions
        self._known: set[str] = set()
        self._policies: set[str] = set()
        self._has_asked = False

    @property
    def description(self) -> str:
        trust = self.model.trust
        return f"what people said, and where they said nothing a reward model{': ' + trust.describe() if trust else ''}"

    async def prepare(self) -> None:
        """Learn from all that people said; after an interruption, be again what was learned then.

        DataError when it is too little, or did not teach it to agree with them.
        """
        self._policies = set(await self._services.policies()) if self._services.policies else set()
        if await self._restored():
            return
        opinions = await self._opinions()
        pairs = opinions.pairs()
        if not pairs:
            raise DataError(
                f"the store holds {len(opinions.said)} ratings and choices of this agent's rollouts, and none prefers "
                f"one rollout to another of the same task, so no reward model can be trained. {_TO_DO}"
            )
        self._known = set(opinions.rollouts)
        trust = await self.model.train(pairs)
        if trust.is_earned and self._folder is not None:
            await self.model.save(self._folder)
        await self._tell(trust, f"reward model: {trust.describe()}.")
        if not trust.is_earned:
            raise DataError(f"the reward model is refused: {trust.describe()}. {_TO_DO}")

    async def _restored(self) -> bool:
        kept = await self._services.kept(self.name) if self._services.kept else None
        if kept is None or self._folder is None or not self._folder.is_dir():
            return False
        then = msgspec.convert(kept, Kept)
        since = self._num_updates - then.num_counted
        await self.model.restore(self._folder, msgspec.structs.replace(then.trust, num_updates=since))
        self._known = set(then.known)
        if self._services.note:
            self._services.note(f"reward model, as it was before the interruption: {then.trust.describe()}.")
        return True

    @property
    def _folder(self) -> Path | None:
        return self._services.folder / self.name if self._services.folder is not None else None

    @property
    def _num_updates(self) -> int:
        """The first policy is the one that was rated."""
        return max(0, len(self._policies) - 1)

    async def __call__(self, task: Task, trajectory: Trajectory) -> Reward | None:
        said = read_feedback(await self._services.feedback(trajectory.id)) if self._services.feedback else []
        if rating := ratings(given for given in said if given.kind == "rating").get(trajectory.id):
            return rating.as_reward(self.name)
        await self._count(trajectory)
        return (await self.model.score([trajectory], is_check_waived=True)).get(trajectory.id)

    async def rated(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Rollouts made before this run, those that succeeded and that nobody rated with the model's score."""
        unrated = [each for each in trajectories if each.reward is None and each.status == "succeeded"]
        given = await self.model.score(unrated, is_check_waived=True)
        return [_with(each, given[each.id]) if each.id in given else each for each in trajectories]

    async def _count(self, trajectory: Trajectory) -> None:
        """Each policy after the first is an update."""
        if trajectory.policy_id in self._policies:
            return
        self._policies.add(trajectory.policy_id)
        if len(self._policies) > 1:
            self.model.policy_updated()
        if self.model.is_check_due and not self._has_asked:
            self._has_asked = True
            await self._check_again()
            self._has_asked = self.model.is_check_due

    async def _check_again(self) -> None:
        opinions = await self._opinions()
        fresh = [pair for pair in opinions.choices() if not self._known.issuperset(_ids(pair))]
        num = self.settings.max_updates
        if fresh:
            self._known |= set(opinions.rollouts)
            trust = await self.model.check(fresh)
            await self._tell(trust, f"reward model, checked after {num} updates of the policy: {trust.describe()}.")
        elif self._services.note:
            self._services.note(
                f"the policy was updated {num} times since people last checked the reward model, and may have learned "
                "its mistakes. Choose between some of this run's rollouts (`agentlightning rate RUN --pairs`) before "
                "you trust its rewards."
            )

    @property
    def settings(self) -> RewardModelSettings:
        return self.model.settings

    async def _tell(self, trust: Trust, text: str) -> None:
        if self._services.note:
            self._services.note(text)
        if self._services.keep:
            kept = Kept(trust=trust, num_counted=self._num_updates, known=sorted(self._known))
            await self._services.keep(self.name, text, msgspec.to_builtins(kept))


def _with(trajectory: Trajectory, reward: Reward) -> Trajectory:
    return msgspec.structs.replace(trajectory, reward=reward.value, rewards=[*trajectory.rewards, reward])


def _ids(pair: Preferred) -> set[str]:
    return {pair.better.id, pair.worse.id}
