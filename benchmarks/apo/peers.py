"""APO beside its peers: the same worlds, the same task model and optimiser, the same number of calls. One table.

    pip install gepa dspy optuna               # into an environment that has agentlightning's requirements
    python -m benchmarks.apo.peers             # from the root of the repository; about 15 minutes

Task and optimiser calls are counted together. The peers may finish the iteration in which their calls end, so they use
slightly more. The seeds reported here were never used to choose a default; those from 1000 up were.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import statistics
import sys
from collections.abc import Callable, Sequence

from benchmarks.apo.peer_dspy import run_dspy_gepa, run_mipro
from benchmarks.apo.peer_gepa import TUNED, Found, run_gepa
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import World, fresh_world

from agentlightning.algorithms.apo.algorithm import APO

BUDGETS = (200, 500, 1000)
REPORTED_SEEDS = range(45)
_T = 2.02
"""Student's t at 97.5 % for 45 worlds."""


def run_apo(world: World, calls: int) -> Found:
    session = SimulatedSession(world, calls=calls)
    found = asyncio.run(APO().train(session))
    return {site.agent: found.text_at(site) for site in session.sites}, found.demos, session.budget.spent


METHODS: dict[str, Callable[[World, int], Found]] = {
    "APO": run_apo,
    "gepa": run_gepa,
    "gepa, tuned": lambda world, calls: run_gepa(world, calls, **TUNED),
    "DSPy GEPA": run_dspy_gepa,
    "DSPy MIPROv2": run_mipro,
}


def measure(method: Callable[[World, int], Found], seeds: Sequence[int], calls: int) -> tuple[list[float], float]:
    """(the true held-out mean on each world, mean calls used)."""
    means: list[float] = []
    used: list[int] = []
    for seed in seeds:
        world = fresh_world(seed)
        # DSPy reports on standard output and error whatever it is told.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            texts, demos, spent = method(world, calls)
        means.append(world.true_mean_of(texts, demos))
        used.append(spent)
    return means, statistics.mean(used)


def main(seeds: Sequence[int] = REPORTED_SEEDS) -> None:
    starts = [fresh_world(seed).true_mean_of({a: fresh_world(seed).start_of(a) for a in fresh_world(seed).agents}, {})
              for seed in seeds]  # fmt: skip
    sys.stdout.write(f"{len(seeds)} worlds, start {statistics.mean(starts):.3f}\n\n")
    sys.stdout.write("| calls | method | calls used | mean | APO minus it (95 % interval) |\n|---|---|---|---|---|\n")
    for calls in BUDGETS:
        ours: list[float] = []
        for name, method in METHODS.items():
            means, used = measure(method, seeds, calls)
            ours = ours or means
            sys.stdout.write(
                f"| {calls} | {name} | {used:.0f} | {statistics.mean(means):.3f} | {_lead(ours, means)} |\n"
            )
            sys.stdout.flush()


def _lead(ours: list[float], theirs: list[float]) -> str:
    if ours is theirs:
        return ""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.mean(differences)
    margin = _T * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.3f} ({mean - margin:+.3f} to {mean + margin:+.3f})"


if __name__ == "__main__":
    main(range(int(sys.argv[1])) if len(sys.argv) > 1 else REPORTED_SEEDS)
