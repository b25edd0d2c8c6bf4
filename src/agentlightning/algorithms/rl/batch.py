"""From gathered groups to samples with advantages: who counts, what is compared with what, what is left out.

The same numbers come out however many rows a rollout became, because everything is decided per play.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from agentlightning.algorithms.rl.advantages import ESTIMATORS, ZERO, Standard, mean
from agentlightning.algorithms.rl.config import MethodName, RLConfig
from agentlightning.algorithms.rl.cooperation import against, mixed
from agentlightning.algorithms.rl.credit import Advantages, Credit, make_credit
from agentlightning.algorithms.rl.gathering import Gathered
from agentlightning.algorithms.rl.play import Play, play_of
from agentlightning.data.sample import Sample
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError

COMPARES_WITH: dict[MethodName, str] = {
    "grpo": "relative",
    "dr_grpo": "centred",
    "rloo": "leave_one_out",
    "reinforce++": "whitened",
    "ppo": "whitened",
    "cispo": "relative",
    "gspo": "relative",
}
"""Method → estimator. PPO's critic gives advantages of its own."""


class Graded(msgspec.Struct):
    """The plays of some groups, one list for each group, and what was left out."""

    groups: list[list[Play]]
    counterfactuals: list[dict[str, float]]
    rewards: list[float]
    """Of all judged rollouts, also of those left out for other reasons."""
    rewards_by_task: dict[str, float]
    num_unjudged: int = 0
    num_without_ids: int = 0
    num_alone: int = 0
    """Groups of which fewer than two rollouts were left."""

    def add(self, other: Graded) -> None:
        """Count `other` in."""
        self.groups += other.groups
        self.counterfactuals += other.counterfactuals
        self.rewards += other.rewards
        self.rewards_by_task |= other.rewards_by_task
        self.num_unjudged += other.num_unjudged
        self.num_without_ids += other.num_without_ids
        self.num_alone += other.num_alone


class Credited(msgspec.Struct, frozen=True):
    """A play that teaches something."""

    play: Play
    advantages: Advantages

    def samples(self) -> list[Sample]:
        """Its rows, ready to be learned from."""
        return [sample.with_turn_advantages(self.advantages) for sample in self.play.samples]


def graded(gathered: Sequence[Gathered], agents: Sequence[str], config: RLConfig) -> Graded:
    """The plays in whole groups. DataError, as `merge` raises it, when not one rollout has token ids."""
    found = Graded([], [], [], {})
    missing: DataError | None = None
    for each in gathered:
        judged = [t for t in each.group.trajectories if t.reward is not None]
        found.num_unjudged += len(each.group.trajectories) - len(judged)
        found.rewards += each.group.rewards
        if (average := each.group.mean) is not None:
            found.rewards_by_task[each.ticket.task_id] = average
        plays: list[list[Play]] = []
        for trajectory in judged:
            try:
                plays.append(_plays(trajectory, agents, config))
            except DataError as error:
                missing = missing or error
                found.num_without_ids += 1
        if len(plays) < 2 <= config.group_size:
            found.num_alone += 1
            continue
        found.groups.append([play for several in plays for play in several])
        found.counterfactuals.append(each.counterfactuals)
    if missing and not any(found.groups):
        raise missing
    return found


def credited(found: Graded, agents: Sequence[str], config: RLConfig) -> list[dict[str, list[Credited]]]:
    """For each group: agent → its plays with their advantages, for those agents that spoke."""
    credit = _credit(config)
    standards = _standards(found.groups, credit, agents, config)
    groups: list[dict[str, list[Credited]]] = []
    for group, known, others in zip(found.groups, standards, found.counterfactuals, strict=True):
        groups.append({})
        for agent in agents:
            own = [(p, s) for p, s in zip(group, known, strict=True) if p.agent == agent]
            if not own:
                continue
            plays, measured = [p for p, _ in own], [s for _, s in own]
            if agent in others:
                measured = against(measured, others[agent])
            spread = credit.spread(plays, measured)
            groups[-1][agent] = [Credited(p, a) for p, a in zip(plays, spread, strict=True)]
    return groups


def teaches(group: Sequence[Credited]) -> bool:
    """Whether any answer in a group is better or worse than expected; a group in which none is has zero variance."""
    return any(abs(value) > ZERO for each in group for value in each.advantages.values())


def _plays(trajectory: Trajectory, agents: Sequence[str], config: RLConfig) -> list[Play]:
    plays = [play for agent in agents if (play := play_of(trajectory, agent)) is not None]
    return [mixed(play, config.own_share) for play in plays] if config.cooperation == "mixed" else plays


def _standards(
    groups: Sequence[Sequence[Play]], credit: Credit, agents: Sequence[str], config: RLConfig
) -> list[list[Standard]]:
    """One for each play, compared with the same agent's plays or with everybody's."""
    estimate = ESTIMATORS[COMPARES_WITH[config.method]]
    scores = [[credit.score(play) for play in group] for group in groups]
    if config.normalise == "shared":
        return estimate(scores, config.std_floor)
    found = [[Standard(0.0, 1.0)] * len(group) for group in groups]
    for agent in agents:
        places = [[i for i, play in enumerate(group) if play.agent == agent] for group in groups]
        own = [[of[i] for i in at] for of, at in zip(scores, places, strict=True)]
        for number, measured in enumerate(estimate(own, config.std_floor)):
            for i, standard in zip(places[number], measured, strict=True):
                found[number][i] = standard
    return found


def _credit(config: RLConfig) -> Credit:
    return make_credit(
        config.credit, discount=config.discount, anchor_weight=config.anchor_weight, floor=config.std_floor
    )


def mean_length(found: Graded) -> float:
    """Sampled tokens of a rollout, over all agents."""
    tokens: dict[str, int] = defaultdict(int)
    for group in found.groups:
        for play in group:
            tokens[play.rollout_id] += play.num_sampled
    return mean(list(tokens.values()))


def repetition(found: Graded, size: int = 4) -> float:
    """Share of runs of `size` sampled tokens that stood in the same answer before; mean over answers long enough."""
    shares = [
        1 - len(set(runs)) / len(runs)
        for group in found.groups
        for play in group
        for sample in play.samples
        for turn in sample.turns
        if (runs := _runs(sample.completion_ids[turn.start : turn.end], size))
    ]
    return mean(shares)


def _runs(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
