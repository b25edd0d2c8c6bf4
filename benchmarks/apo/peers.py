"""APO beside its peers: the same worlds, the same task model and optimiser, the same number of calls. One table.

    pip install gepa dspy optuna               # into an environment that has agentlightning's requirements
    AGENTLIGHTNING_03_PYTHON=… python -m benchmarks.apo.peers     # from the root of the repository

The variable names the python of an environment with agentlightning[apo]==0.3.0; without it that peer is left out. What
is measured is kept in a file (--keep) and not measured again, so the hours this takes may be interrupted.

Task and optimiser calls are counted together. The peers may finish the iteration in which their calls end, so they use
slightly more. The seeds reported here were never used to choose a default; those from 1000 up were.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from benchmarks.apo.families import FAMILIES, AnyWorld, Found
from benchmarks.apo.simulated import SimulatedSession

from agentlightning.algorithms.apo.algorithm import APO

BUDGETS = (200, 500, 1000)
NUM_WORLDS = 45
Job = tuple[str, str, int, int]
"""Family, method, calls, seed."""
PYTHON = os.environ.get("AGENTLIGHTNING_03_PYTHON", "")
"""The python of an environment with agentlightning[apo]==0.3.0."""


def run_apo(world: AnyWorld, calls: int) -> Found:
    session = SimulatedSession(world, calls=calls)
    found = asyncio.run(APO().train(session))
    return {site.agent: found.text_at(site) for site in session.sites}, found.demos, session.budget.spent


def run_gepa(world: AnyWorld, calls: int) -> Found:
    # Peers are imported where they are run: with some of them missing, the others can be measured.
    from benchmarks.apo import peer_gepa

    return peer_gepa.run_gepa(world, calls)


def run_tuned_gepa(world: AnyWorld, calls: int) -> Found:
    from benchmarks.apo import peer_gepa

    return peer_gepa.run_gepa(world, calls, **peer_gepa.TUNED)


def run_dspy_gepa(world: AnyWorld, calls: int) -> Found:
    from benchmarks.apo import peer_dspy

    return peer_dspy.run_dspy_gepa(world, calls)


def run_mipro(world: AnyWorld, calls: int) -> Found:
    from benchmarks.apo import peer_dspy

    return peer_dspy.run_mipro(world, calls)


def run_lightning(world: AnyWorld, calls: int) -> Found:
    from benchmarks.apo import peer_lightning

    return peer_lightning.run_lightning(world, calls)


METHODS: dict[str, Callable[[AnyWorld, int], Found]] = {
    "APO": run_apo,
    "gepa": run_gepa,
    "gepa, tuned": run_tuned_gepa,
    "DSPy GEPA": run_dspy_gepa,
    "DSPy MIPROv2": run_mipro,
    **({"agentlightning 0.3.0 APO": run_lightning} if PYTHON else {}),
}


def measure(job: Job) -> tuple[float, int]:
    """(the true held-out mean of what one search hands back, calls used)."""
    family, method, calls, seed = job
    world = FAMILIES[family](seed)
    # DSPy reports on standard output and error whatever it is told.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        texts, demos, spent = METHODS[method](world, calls)
    return world.true_mean_of(texts, demos), spent


def measure_all(jobs: Sequence[Job], kept: Path, num_processes: int) -> dict[Job, tuple[float, int]]:
    """All of them, those in the file from there; each is written down as soon as it is known."""
    lines = kept.read_text().splitlines() if kept.exists() else []
    known: dict[Job, tuple[float, int]] = {tuple(job): tuple(found) for job, found in map(json.loads, lines)}  # type: ignore[misc]
    missing = [job for job in jobs if job not in known]
    with kept.open("a") as file, multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        for job, found in pool.imap_unordered(_measured, missing):
            known[job] = found
            file.write(json.dumps([job, found]) + "\n")
            file.flush()
    return known


def _measured(job: Job) -> tuple[Job, tuple[float, int]]:
    return job, measure(job)


def write_table(family: str, known: dict[Job, tuple[float, int]], every: Sequence[int], methods: Sequence[str]) -> None:
    """The table of one family; of each method the worlds that were measured."""
    worlds = [FAMILIES[family](seed) for seed in every]
    starts = [world.true_mean_of({agent: world.start_of(agent) for agent in world.agents}, {}) for world in worlds]
    sys.stdout.write(f"\n{family}: {len(every)} worlds, start {statistics.mean(starts):.3f}\n\n")
    sys.stdout.write("| calls | method | worlds | calls used | mean | APO minus it (95 % interval) |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for calls, method in product(BUDGETS, methods):
        seeds = [seed for seed in every if (family, method, calls, seed) in known]
        found = [known[family, method, calls, seed] for seed in seeds]
        ours = [known[family, "APO", calls, seed][0] for seed in seeds]
        means, used = [mean for mean, _ in found], statistics.mean(spent for _, spent in found)
        lead = "" if method == "APO" else _lead(ours, means)
        sys.stdout.write(
            f"| {calls} | {method} | {len(seeds)} | {used:.0f} | {statistics.mean(means):.3f} | {lead} |\n"
        )


def _lead(ours: list[float], theirs: list[float]) -> str:
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.mean(differences)
    freedom = len(differences) - 1
    # Student's t at 97.5 %, to two decimals from ten degrees of freedom on.
    margin = (1.96 + 2.4 / freedom + 3.2 / freedom**2) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.3f} ({mean - margin:+.3f} to {mean + margin:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="APO beside its peers")
    parser.add_argument("--worlds", type=int, default=NUM_WORLDS)
    parser.add_argument("--first", type=int, default=0, help="the first seed; the reported ones begin at 0")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--keep", type=Path, default=Path("apo-peers.jsonl"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.worlds)
    jobs: list[Job] = [(f, m, c, s) for f, m, c, s in product(given.families, given.methods, BUDGETS, seeds)]
    known = measure_all(jobs, given.keep, given.processes)
    for family in given.families if "APO" in given.methods else []:
        write_table(family, known, seeds, given.methods)


if __name__ == "__main__":
    main()
