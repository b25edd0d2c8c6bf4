"""Credit: how what a rollout earned reaches the single answers in it.

A credit gives each play one `score` (from which the baselines are made) and, given its standard, spreads advantages
over the play's turns. Each says where it is biased; none is right for every agent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from agentlightning.algorithms.rl.advantages import Standard, mean, relative, returns_to_go
from agentlightning.algorithms.rl.play import Play

Advantages = dict[int, float]
"""Turn → advantage."""


class Credit(Protocol):
    """`score`: one number per play. `spread`: the turns' advantages of each play of one group and one agent."""

    def score(self, play: Play) -> float: ...

    def spread(self, group: Sequence[Play], standards: Sequence[Standard]) -> list[Advantages]: ...


class Episode(msgspec.Struct, frozen=True):
    """Every answer gets the whole rollout's advantage. What everybody does, and a good default.

    Unbiased (with an unbiased baseline): each answer's gradient is weighed by the return that followed it. The price is
    variance: a good answer in a lost rollout is blamed, and luck averages out slowly when rollouts have many turns.
    """

    def score(self, play: Play) -> float:
        return play.reward

    def spread(self, group: Sequence[Play], standards: Sequence[Standard]) -> list[Advantages]:
        return [dict.fromkeys(p.turns, s.advantage(p.reward)) for p, s in zip(group, standards, strict=True)]


class Discounted(msgspec.Struct, frozen=True):
    """The episode's advantage, fading with the number of model calls between an answer and the end.

    Biased towards late answers: if the decisive one came early, it is heard faintly. It learns faster where the last
    answers decide (writing the result, stopping in time).
    """

    discount: float

    def score(self, play: Play) -> float:
        return play.reward

    def spread(self, group: Sequence[Play], standards: Sequence[Standard]) -> list[Advantages]:
        return [
            {turn: s.advantage(p.reward) * self.discount ** p.num_later[turn] for turn in p.turns}
            for p, s in zip(group, standards, strict=True)
        ]


class Steps(msgspec.Struct, frozen=True):
    """Each answer gets what came after it: rewards emitted for steps, and the rollout's reward at the last turn.

    The baseline is one number for the group: the mean over plays of a play's mean return. A baseline per turn number
    would look finer and be wrong where the policy decides when to stop: the plays that reach turn five are not a fair
    sample. With `discount` 1 and a leave-one-out baseline it is unbiased. Below 1 it prefers soon to late; and as late
    turns have less ahead of them than early ones, one baseline for all leaves more variance than a critic would.
    """

    discount: float

    def score(self, play: Play) -> float:
        return mean(list(self.returns(play).values()))

    def spread(self, group: Sequence[Play], standards: Sequence[Standard]) -> list[Advantages]:
        return [
            {turn: s.advantage(value) for turn, value in self.returns(p).items()}
            for p, s in zip(group, standards, strict=True)
        ]

    def returns(self, play: Play) -> dict[int, float]:
        """Turn → return. Time runs in the rollout's model calls, of whatever agent."""
        rewards = [play.step_rewards.get(turn, 0.0) for turn in play.turns]
        rewards[-1] += play.reward
        gaps = [play.num_later[a] - play.num_later[b] for a, b in zip(play.turns, play.turns[1:], strict=False)]
        discounts = [self.discount**gap for gap in (*gaps, 0)]
        return dict(zip(play.turns, returns_to_go(rewards, discounts), strict=True))


class Anchor(msgspec.Struct, frozen=True):
    """GiGPO (arXiv 2505.10978): the episode's advantage, plus a comparison of answers to the same observation.

    Within a group, turns in which the agent had just been told the very same thing form a group of their own; their
    discounted returns are compared. Biased where the same observation hides different histories (an empty result after
    a good query and after a bad one); such turns are compared as if they were one state. A turn without a twin in
    another rollout gets the episode's advantage only.
    """

    discount: float
    weight: float
    floor: float

    def score(self, play: Play) -> float:
        return play.reward

    def spread(self, group: Sequence[Play], standards: Sequence[Standard]) -> list[Advantages]:
        steps = Steps(self.discount)
        meetings: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
        for number, play in enumerate(group):
            for turn, value in steps.returns(play).items():
                meetings[play.states[turn]].append((number, turn, value))
        found = Episode().spread(group, standards)
        for met in meetings.values():
            if len({number for number, _, _ in met}) < 2:
                continue
            of_state = relative([[value for _, _, value in met]], self.floor)[0]
            for (number, turn, value), standard in zip(met, of_state, strict=True):
                found[number][turn] += self.weight * standard.advantage(value)
        return found


def make_credit(name: str, *, discount: float, anchor_weight: float, floor: float) -> Credit:
    """The credit of a configuration."""
    known: dict[str, Credit] = {
        "episode": Episode(),
        "discounted": Discounted(discount),
        "steps": Steps(discount),
        "anchor": Anchor(discount, anchor_weight, floor),
    }
    return known[name]
