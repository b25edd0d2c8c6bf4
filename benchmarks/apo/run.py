"""How much does APO gain, and what do its choices gain? One table over fresh simulated worlds at three budgets.

    python -m benchmarks.apo.run               # from the root of the repository; about twenty minutes of processor time

Every number is a mean over worlds of the true held-out success rate (no luck in it) of the policy handed back, in both
families of worlds.
Defaults were chosen on other seeds (1000 and up) than those reported here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import Pool

from benchmarks.apo.families import FAMILIES
from benchmarks.apo.simulated import SimulatedSession

from agentlightning.algorithms.apo.algorithm import APO
from agentlightning.algorithms.apo.scoreboard import Comparison
from agentlightning.algorithms.apo.search import Search, Verdict
from agentlightning.data.task import Task

BUDGETS = (200, 500, 1000)
REPORTED_SEEDS = range(45)


class StrictAPO(APO):
    """Promotes only what a bootstrap calls better with probability 0.8: the ablation of accepting by the mean."""

    def accepts(self, validation: Comparison, training: Comparison) -> bool:
        differences = [*validation.differences, *training.differences]
        rng = random.Random(repr(differences))
        wins = sum(sum(rng.choices(differences, k=len(differences))) > 0 for _ in range(200))
        return wins >= 160


class OneBlock(Search):
    """Every candidate is run on all of a round's tasks: the ablation of the race."""

    def blocks(self, tasks: Sequence[Task]) -> list[list[Task]]:
        return [list(tasks)]


class UnracedAPO(APO):
    search_class = OneBlock


class ValidatesAll(Search):
    """No idea is taken over without a validation: the ablation of clear gains that may wait, or do without."""

    async def validate(self, verdicts: list[Verdict]) -> list[Verdict]:
        self._is_tight = False
        return await super().validate(verdicts)

    def promote(self, verdicts: Sequence[Verdict]) -> Verdict | None:
        if verdicts and not self.board.is_validated(verdicts[0].candidate.policy):
            return None
        return super().promote(verdicts)


class ValidatingAPO(APO):
    search_class = ValidatesAll


VARIANTS: dict[str, Callable[[], APO]] = {
    "APO": APO,
    "no demos": lambda: APO(bootstrap_demos=0),
    "no deletion": lambda: APO(delete_lines=False),
    "1 draft": lambda: APO(num_drafts=1),
    "8 runs shown": lambda: APO(max_runs_shown=8),
    "1 candidate": lambda: APO(num_candidates=1),
    "strict gate": StrictAPO,
    "no race": UnracedAPO,
    "validates all": ValidatingAPO,
    "minibatch 3": lambda: APO(minibatch_size=3),
}


def final_mean(job: tuple[str, str, int, int]) -> float:
    """The true held-out mean of what one search hands back; of "start", what searches begin with."""
    family, variant, seed, calls = job
    world = FAMILIES[family](seed)
    session = SimulatedSession(world, calls=calls)
    found = session.policy if variant == "start" else asyncio.run(VARIANTS[variant]().train(session))
    return world.true_mean(found, session.sites)


def table(family: str, seeds: Sequence[int], pool: Pool, budgets: Sequence[int] = BUDGETS) -> Iterator[str]:
    """One line per variant and one column per budget: mean, paired difference to APO ± its error.

    The last column counts the searches, over all budgets, whose result is truly worse than what they started from.
    """
    yield f"{family:13}" + "".join(f"{calls:>18} calls" for calls in budgets) + "   worse"

    def ends_of(variant: str) -> list[list[float]]:
        jobs = [(family, variant, seed, calls) for calls in budgets for seed in seeds]
        means = iter(pool.map(final_mean, jobs, chunksize=5))
        return [[next(means) for _ in seeds] for _ in budgets]

    starts, first = ends_of("start"), ends_of("APO")
    for name in ("start", *VARIANTS):
        columns = {"start": starts, "APO": first}.get(name) or ends_of(name)
        worse = sum(end < start - 1e-9 for column in columns for start, end in zip(starts[0], column, strict=True))
        cells = (_cell(column, other) for column, other in zip(columns, first, strict=True))
        yield f"{name:13}" + "".join(f"{cell:>24}" for cell in cells) + f"{worse:8}"


def _cell(column: list[float], other: list[float]) -> str:
    mean = f"{statistics.mean(column):.3f}"
    differences = [a - b for a, b in zip(column, other, strict=True)]
    if not any(differences):
        return mean
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean} ({statistics.mean(differences):+.3f} ±{error:.3f})"


def main() -> None:
    with multiprocessing.get_context("spawn").Pool() as pool:
        for family in FAMILIES:
            for line in table(family, REPORTED_SEEDS, pool):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            sys.stdout.write("\n")


if __name__ == "__main__":
    main()
