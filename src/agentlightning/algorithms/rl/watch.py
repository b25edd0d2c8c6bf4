"""Says in words what goes wrong while learning, with what to do; each thing once, until it has gone away.

Rewards that never differ, weights that ran away from those that sampled, and answers that grow or repeat themselves
while the reward climbs: curves show these too, to those who know what they are looking at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from agentlightning.algorithms.rl.advantages import ZERO, mean

MAX_KL = 1.0
"""Nats per token between the weights that sampled and those that learn; healthy runs stay below 0.1."""
MAX_RATIO = 1000.0
MANY_USELESS = 0.8
WINDOW = 8
"""Iterations looked back on."""
GROWTH = 1.5
TOGETHER = 0.8
"""Correlation from which two curves are said to climb together."""


FALL = 0.1
"""Of success on the validation tasks, from its best."""
FEW_TASKS = 10


def fallen(best: float, now: float, num_tasks: int) -> str | None:
    """What to say where success is far below its best; None where it is not, or where too few tasks tell."""
    if num_tasks < FEW_TASKS or now >= best - FALL:
        return None
    return (
        f"success on the {num_tasks} validation tasks fell to {now:.3f} from {best:.3f}. Whole kinds of tasks that "
        "were not in the last batches may have been lost, which ratio and KL do not show: lower policy_lr, or raise "
        "batch_size. The weights that did best are kept (unless keep_best is false)."
    )


class Seen(msgspec.Struct, frozen=True):
    """One iteration, as far as it tells whether things go well."""

    num_tasks: int
    lowest: float
    highest: float
    reward: float
    length: float
    repetition: float
    useless_share: float
    """Of the groups: their rollouts were all as good as each other."""
    ratio_max: float = 1.0
    kl: float = 0.0


class Watch:
    """Looks at each iteration; `num_tasks`, and at least `min_iterations`, make an epoch."""

    def __init__(self, num_tasks: int, seen: Sequence[Seen] = (), *, min_iterations: int = 3) -> None:
        self.seen = list(seen)
        self._num_tasks = num_tasks
        self._min_iterations = min_iterations
        self._said: set[str] = set()

    def look(self, seen: Seen) -> list[str]:
        """What there is to say now that was not said before."""
        self.seen.append(seen)
        checks = {
            "useless": self._useless(),
            "ratio": self._runaway(),
            "length": self._climbing("length", [s.length for s in self.seen]),
            "repetition": self._climbing("repetition", [s.repetition for s in self.seen]),
        }
        new = [text for name, text in checks.items() if text and name not in self._said]
        self._said = {name for name, text in checks.items() if text}
        return new

    def nothing_differs(self) -> str | None:
        """Why going on is no use: a whole epoch in which every rollout of every task got the same reward."""
        epoch = self._last_epoch()
        if epoch is None or max(s.highest for s in epoch) - min(s.lowest for s in epoch) > ZERO:
            return None
        value = epoch[0].highest
        is_first = len(epoch) == len(self.seen)
        if not is_first:
            return f"every rollout of the last epoch got the reward {value:g}: there is nothing left to learn from."
        return (
            f"every rollout of the first epoch got the reward {value:g}, so nothing tells a good answer from a bad "
            "one. If that is the lowest reward: begin with easier tasks, with `sft` on demonstrations, or give partial "
            "rewards. If it is the highest, the agent can do these tasks: give it harder ones. If answers hardly "
            "differ, raise temperature or group_size; and check the reward on two answers you know."
        )

    def is_lost(self) -> bool:
        """The weights are so far from those that sampled that their answers say little about them."""
        return bool(self.seen) and (self.seen[-1].kl > 10 * MAX_KL or not math.isfinite(self.seen[-1].kl))

    def _last_epoch(self) -> list[Seen] | None:
        """The latest iterations that cover all tasks once; None before there was an epoch."""
        total, chosen = 0, list[Seen]()
        for seen in reversed(self.seen):
            chosen.insert(0, seen)
            total += seen.num_tasks
            if total >= self._num_tasks and len(chosen) >= self._min_iterations:
                return chosen
        return None

    def _useless(self) -> str | None:
        epoch = self._last_epoch()
        if epoch is None or mean([s.useless_share for s in epoch]) < MANY_USELESS:
            return None
        return (
            f"{mean([s.useless_share for s in epoch]):.0%} of the groups of the last epoch taught nothing: their "
            "rollouts were all as good as each other, and their cost was spent in vain. Use tasks of middling "
            "difficulty (curriculum: uncertain picks them), a larger group_size, a higher temperature, or a reward "
            "with more grades."
        )

    def _runaway(self) -> str | None:
        last = self.seen[-1]
        if last.kl <= MAX_KL and last.ratio_max <= MAX_RATIO and math.isfinite(last.kl + last.ratio_max):
            return None
        return (
            f"the weights have run far from those that sampled (ratio up to {last.ratio_max:.3g}, {last.kl:.3g} nats "
            "per token): each update is too large, or who samples computes other probabilities than who learns. Lower "
            "policy_lr, num_minibatches or max_staleness; with a sampling server, check that it serves the same "
            "weights and dtype."
        )

    def _climbing(self, what: str, values: Sequence[float]) -> str | None:
        """Whether `values` climb with the reward: both up, together, over the last iterations."""
        rewards = [s.reward for s in self.seen][-WINDOW:]
        recent = list(values)[-WINDOW:]
        if len(recent) < WINDOW or rewards[-1] <= rewards[0]:
            return None
        half = WINDOW // 2
        before, after = mean(recent[:half]), mean(recent[half:])
        has_grown = after > max(GROWTH * before, before + (0.1 if what == "repetition" else 1.0))
        if not has_grown or _correlation(rewards, recent) < TOGETHER:
            return None
        sign = "answers get longer" if what == "length" else "answers repeat themselves more"
        return (
            f"{sign} as the reward climbs ({before:.3g} → {after:.3g} over {WINDOW} iterations). That can be learning, "
            "and it can be a reward that is easier to please than to earn. Read a few rollouts of the last iteration; "
            "if it is the latter, change the reward (or add kl: 0.02)."
        )


def _correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Pearson's; 0.0 where one of them does not move."""
    a, b = mean(left), mean(right)
    spread = math.sqrt(math.fsum((x - a) ** 2 for x in left) * math.fsum((y - b) ** 2 for y in right))
    return math.fsum((x - a) * (y - b) for x, y in zip(left, right, strict=True)) / spread if spread > ZERO else 0.0
