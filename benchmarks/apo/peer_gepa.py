"""gepa on a simulated world, through its own adapter interface: at its defaults, and tuned."""

from __future__ import annotations

from typing import Any

import gepa
from benchmarks.apo.families import AnyWorld, Found, propose
from gepa.core.adapter import EvaluationBatch

from agentlightning.data.task import Task

TUNED = {"reflection_minibatch_size": 8, "cache_evaluation": True}


def run_gepa(world: AnyWorld, calls: int, **options: Any) -> Found:
    """Search until the calls are spent. The iteration in which that happens is finished, in gepa's favour."""
    adapter = WorldAdapter(world)
    result = gepa.optimize(
        seed_candidate={agent: world.start_of(agent) for agent in world.agents},
        trainset=Tasks(world.tasks("train")),
        valset=Tasks(world.tasks("validation")),
        adapter=adapter,
        reflection_lm=adapter.reflect,
        stop_callbacks=lambda state: adapter.spent >= calls,
        logger=Quiet(),
        seed=world.seed,
        **options,
    )
    return dict(result.best_candidate), {}, adapter.spent


class Tasks:
    """Tasks by their ids: from bare lists gepa 0.1.4 would number both sets from 0, and its cache confuse them."""

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = {task.id: task for task in tasks}

    def all_ids(self) -> list[str]:
        return list(self._tasks)

    def fetch(self, ids: list[str]) -> list[Task]:
        return [self._tasks[id] for id in ids]

    def __len__(self) -> int:
        return len(self._tasks)


class Quiet:
    def log(self, message: str) -> None:
        pass


class WorldAdapter:
    """Runs a world's agents with a candidate's texts, and counts every call, the optimiser's too."""

    propose_new_texts = None

    def __init__(self, world: AnyWorld) -> None:
        self.world, self.spent, self._num_asked = world, 0, 0

    def evaluate(self, batch: list[Any], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        world = self.world
        self.spent += world.calls_per_rollout * len(batch)
        outputs = [
            "; ".join(world.act(agent, candidate[agent], [], str(task.input)) for agent in world.agents)
            for task in batch
        ]
        scores = [
            world.in_unit(world.grade(str(task.input), output)) for task, output in zip(batch, outputs, strict=True)
        ]
        traces = list(zip(batch, outputs, strict=True)) if capture_traces else None
        return EvaluationBatch(outputs=outputs, scores=scores, trajectories=traces)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        records = [self._record(task, output) for task, output in eval_batch.trajectories]
        return dict.fromkeys(components_to_update, records)

    def _record(self, task: Any, output: str) -> dict[str, Any]:
        feedback = self.world.reason(str(task.input), output)
        if task.expected is not None:
            feedback += f". Expected: {task.expected}"
        return {"Inputs": task.input, "Generated Outputs": output, "Feedback": feedback}

    def reflect(self, prompt: Any) -> str:
        self.spent += 1
        self._num_asked += 1
        return propose(self.world, str(prompt), self._num_asked)
