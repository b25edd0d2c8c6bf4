"""How much does APO gain, and what do its choices gain? One table over fresh simulated worlds at three budgets.

    python -m benchmarks.apo.run               # from the root of the repository; about two minutes

Every number is a mean over worlds of the true held-out success rate (no luck in it) of the policy handed back.
Defaults were chosen on other seeds (1000 and up) than those reported here.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections.abc import Callable, Sequence

from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import fresh_world

from agentlightning.algorithms.apo.algorithm import APO
from agentlightning.algorithms.apo.scoreboard import Comparison

BUDGETS = (200, 500, 1000)
REPORTED_SEEDS = range(45)


class StrictAPO(APO):
    """Promotes only what a bootstrap calls better with probability 0.8: the ablation of accepting by the mean."""

    def accepts(self, validation: Comparison, training: Comparison) -> bool:
        differences = [*validation.differences, *training.differences]
        rng = random.Random(repr(differences))
        wins = sum(sum(rng.choices(differences, k=len(differences))) > 0 for _ in range(200))
        return wins >= 160


VARIANTS: dict[str, Callable[[], APO]] = {
    "APO": APO,
    "no demos": lambda: APO(bootstrap_demos=0),
    "no deletion": lambda: APO(delete_lines=False),
    "8 runs shown": lambda: APO(max_runs_shown=8),
    "1 candidate": lambda: APO(num_candidates=1),
    "strict gate": StrictAPO,
    "minibatch 3": lambda: APO(minibatch_size=3),
}


def final_mean(make: Callable[[], APO], seed: int, calls: int) -> float:
    """The true held-out mean of what one search hands back."""
    world = fresh_world(seed)
    session = SimulatedSession(world, calls=calls)
    return world.true_mean(asyncio.run(make().train(session)), session.sites)


def table(variants: dict[str, Callable[[], APO]], seeds: Sequence[int], budgets: Sequence[int] = BUDGETS) -> str:
    """One line per variant and one column per budget: mean, paired difference to the first variant ± its error.

    The last column counts the searches, over all budgets, whose result is truly worse than what they started from.
    """
    starts = [final_mean(APO, seed, 0) for seed in seeds]
    ends = {"start": [starts for _ in budgets]}
    for name, make in variants.items():
        ends[name] = [[final_mean(make, seed, calls) for seed in seeds] for calls in budgets]
    first = ends[next(iter(variants))]
    lines = [" " * 12 + "".join(f"{calls:>18} calls" for calls in budgets) + "   worse"]
    for name, columns in ends.items():
        worse = sum(end < start - 1e-9 for column in columns for start, end in zip(starts, column, strict=True))
        cells = (_cell(column, other) for column, other in zip(columns, first, strict=True))
        lines.append(f"{name:12}" + "".join(f"{cell:>24}" for cell in cells) + f"{worse:8}")
    return "\n".join(lines)


def _cell(column: list[float], other: list[float]) -> str:
    mean = f"{statistics.mean(column):.3f}"
    differences = [a - b for a, b in zip(column, other, strict=True)]
    if not any(differences):
        return mean
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean} ({statistics.mean(differences):+.3f} ±{error:.3f})"


if __name__ == "__main__":
    sys.stdout.write(table(VARIANTS, REPORTED_SEEDS) + "\n")
