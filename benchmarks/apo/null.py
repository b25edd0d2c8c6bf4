"""Worlds with nothing to gain: how often does a run claim "improved", and is what it hands back ever worse?

    python -m benchmarks.apo.null              # from the root of the repository; about a minute

APO searches a world where no line does any good, and its result goes through the trainer's verdict on held-out tasks.
In the first half of the runs no line does anything at all; in the second half, wrong lines and long prompts harm.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
from collections import Counter

import msgspec
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import World, fresh_world

from agentlightning.algorithms.apo.algorithm import APO
from agentlightning.data.resource import Policy
from agentlightning.trainer.evaluation import Claim, verdict

NUM_RUNS = 200
NUM_TEST = 60
MOST_CALLED_IMPROVED = 10


def null_world(seed: int, *, is_harmful: bool) -> World:
    """A fresh world in which obeying the prompt, or copying an example, brings no success."""
    rng = random.Random(f"null/{seed}")
    floor = rng.uniform(0.2, 0.9)
    world = msgspec.structs.replace(fresh_world(seed), floor=floor, ceiling=floor, num_test=NUM_TEST)
    return world if is_harmful else msgspec.structs.replace(world, harmful=0.0, weight=0.0)


def claim_of(world: World, calls: int) -> tuple[Claim, float]:
    """The verdict on one search, and the true change of what is handed back."""
    session = SimulatedSession(world, calls=calls)
    found = asyncio.run(APO().train(session))
    before = rewards(session, Policy())
    winners = {} if found.is_original else {found.id: rewards(session, found)}
    claim = verdict(before, winners)
    kept = found if claim.policy_id == found.id else Policy()
    return claim, world.true_mean(kept, session.sites) - world.true_mean(Policy(), session.sites)


def rewards(session: SimulatedSession, policy: Policy) -> dict[str, list[float | None]]:
    """Each held-out task's reward, by one run of the agent."""
    return {task.id: [session.act(policy, task, 0).reward] for task in session.world.tasks("test")}


def main(num_runs: int = NUM_RUNS) -> int:
    total = 0
    for is_harmful in (False, True):
        seeds = range(5000 + is_harmful * num_runs, 5000 + is_harmful * num_runs + num_runs // 2)
        results = [claim_of(null_world(seed, is_harmful=is_harmful), 500) for seed in seeds]
        counts = Counter(claim.verdict for claim, _ in results)
        total += counts["improved"]
        changes = [change for _, change in results]
        kind = "lines harm or do nothing" if is_harmful else "lines do nothing"
        counted = ", ".join(f"{name}: {counts[name]}" for name in ("improved", "not shown", "kept original"))
        told = f"mean true change {statistics.mean(changes):+.4f}, worst {min(changes):+.3f}"
        sys.stdout.write(f"{len(results)} runs where {kind}: {counted}; {told}\n")
    sys.stdout.write(f"called improved in {total} of {num_runs} runs (at most {MOST_CALLED_IMPROVED} wanted)\n")
    return int(total > MOST_CALLED_IMPROVED)


if __name__ == "__main__":
    sys.exit(main())
