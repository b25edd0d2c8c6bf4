"""Were the people content? Their own word where there is one; else a model's guess, and the reason says which.

`user_satisfaction`: how content the user is with the answer. `user_confirmation_rate`: did the user confirm that they
were understood and the right thing was done. Both read the `feedback` records about the rollout, then what the agent
emitted under the same name (`emit_reward(1, name="user_satisfaction")`), then ask the judge model with a rubric. A
model playing the user is a substitute: check it against real ratings (`rewards/calibration.py`) before trusting it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.rewards.base import RewardFunction, Services
from agentlightning.rewards.feedback import ratings, read_feedback
from agentlightning.rewards.judge import Judge

SATISFACTION_RUBRIC = """\
You stand for the user who wrote the input. How content would they be with the output? Judge by what they wanted, and by
nothing else.
1.0: it settles what they came for; they would thank and leave.
0.7: it helps, and they need one more small step, or had to read too much for it.
0.4: it helps in part; they would have to ask again.
0.0: it does not help, is wrong, talks past them, or talks down to them.
Politeness without help earns nothing; neither does length."""

CONFIRMATION_RUBRIC = """\
You stand for the user who wrote the input. Would they confirm that the output understood them and does what they meant?
1.0: yes: day, amount, person, and intent are theirs, and nothing was done that they did not ask for.
0.5: it asks back before acting, about something that was really open.
0.0: no: something was misread, assumed without ground, or done unasked."""


class FromUsers:
    """What users said of a rollout; what the agent reported of them; else the judge's guess; else nothing."""

    name = "from_users"
    default_rubric = ""

    def __init__(self, rubric: str = "") -> None:
        self.rubric = rubric or self.default_rubric

    def bind(self, services: Services) -> RewardFunction:
        judge = Judge(services.complete, self.rubric, name=self.name) if services.complete else None
        return _Bound(self, services.feedback, judge, services.judge)


class UserSatisfaction(FromUsers):
    """The mean of the users' ratings, 0 to 1; or as the judge model guesses it."""

    name = "user_satisfaction"
    default_rubric = SATISFACTION_RUBRIC


class UserConfirmationRate(FromUsers):
    """The mean over users, a rating of 1 being a confirmation and 0 none; or as the judge model guesses it."""

    name = "user_confirmation_rate"
    default_rubric = CONFIRMATION_RUBRIC


class HumanFeedback(FromUsers):
    """The mean of the users' ratings and nothing else: what nobody rated has no reward."""

    name = "human_feedback"

    def bind(self, services: Services) -> RewardFunction:
        return _Bound(self, services.feedback, None, "")


class _Bound:
    """The reward in a run, where feedback can be read and a model be asked."""

    def __init__(
        self,
        source: FromUsers,
        feedback: Callable[[str], Awaitable[list[dict[str, Any]]]] | None,
        judge: Judge | None,
        model: str,
    ) -> None:
        self.name = source.name
        self._feedback = feedback
        self._judge = judge
        self._model = model

    @property
    def description(self) -> str:
        guess = f", where there is none a model that stands for the user: {self._model}" if self._judge else ""
        return f"{self.name}: what users said{guess}"

    async def __call__(self, task: Task, trajectory: Trajectory) -> Reward | None:
        given = read_feedback(await self._feedback(trajectory.id)) if self._feedback else []
        if rating := ratings(given).get(trajectory.id):
            return rating.as_reward(self.name)
        emitted = [r for r in trajectory.rewards if r.source == "emitted" and r.name == self.name and r.step is None]
        if emitted:
            return emitted[-1]
        return await self._judge(task, trajectory) if self._judge else None
