"""What a step costs beside TRL: the same model, prompts, group size, answer length and optimiser steps, in CPU-seconds.

    python -m benchmarks.rl_cost --steps 6

Single-turn only, which is what TRL's GRPOTrainer does: 8 prompts × 8 answers of at most 32 tokens (they end by
themselves, at nine or so), float32, random rewards, one optimiser step. Both run in this process, one after the other,
on one thread; the first step of each warms up and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.algorithms.rl_worlds import LocalSession, Team  # noqa: E402

from agentlightning.algorithms import ALGORITHMS  # noqa: E402
from agentlightning.data.call import Call  # noqa: E402
from agentlightning.data.task import Task  # noqa: E402
from agentlightning.demo.sql.agent import SYSTEM  # noqa: E402
from agentlightning.demo.sql.tasks import make_tasks  # noqa: E402

MODEL = ROOT / "src" / "agentlightning" / "demo" / "sql" / "model"
NUM_TASKS, GROUP, LENGTH = 8, 8, 32


def messages(question: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def questions(num: int) -> list[str]:
    return [task.input["question"] for task in make_tasks({"train": num})["train"]]  # type: ignore[index]


def trl_seconds(model: Path, num_steps: int) -> tuple[list[float], float]:
    """Also: mean tokens of an answer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.process_time())

    lengths: list[int] = []

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.extend(map(len, completion_ids))
        return [random.random() for _ in completions]

    settings: dict[str, Any] = {
        "per_device_train_batch_size": NUM_TASKS * GROUP,
        "num_generations": GROUP,
        "max_completion_length": LENGTH,
        "max_steps": num_steps + 1,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "beta": 0.0,
        "model_init_kwargs": {"dtype": "float32"},
        "disable_tqdm": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset.from_list([{"prompt": messages(question)} for question in questions(NUM_TASKS * num_steps)])
        config = GRPOConfig(output_dir=folder, **settings)
        trainer = GRPOTrainer(
            model=str(model), reward_funcs=reward, args=config, train_dataset=data, callbacks=[Clock()]
        )
        trainer.train()
    return [after - before for before, after in pairwise(marks)], mean(lengths)


async def our_seconds(model: Path, num_steps: int, correction: str) -> tuple[list[float], float]:
    """Also: mean tokens of an answer."""
    from agentlightning.engine.torch.engine import TorchEngine

    lengths: list[int] = []

    async def one_answer(team: Team, task: Task) -> float:
        call = Call("solo", "m", messages(str(task.input)), params={"temperature": 1.0, "max_tokens": LENGTH})
        team.engine = Capped(team.engine)
        await team.ask("solo", call.messages)
        reply = team.steps[-1].reply
        lengths.append(len(reply.completion_ids or []) if reply else 0)
        return random.random()

    class Capped:
        def __init__(self, engine: Any) -> None:
            self.engine = engine

        def sample(self, call: Call, **options: Any) -> Any:
            capped = msgspec.structs.replace(call, params=call.params | {"max_tokens": LENGTH})
            return self.engine.sample(capped, **options)

    marks: list[float] = []
    tasks = [Task(id=f"t{i}", input=question) for i, question in enumerate(questions(NUM_TASKS * (num_steps + 1)))]
    engine = TorchEngine(model, method="full", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        session = LocalSession(one_answer, Path(folder), engine=engine, tasks=tasks)
        session.validation_tasks = tasks[:1]
        keep = session.checkpoint

        async def marked(state: Any) -> None:
            marks.append(time.process_time())
            await keep(state)

        session.checkpoint = marked  # type: ignore[method-assign]
        settings: dict[str, Any] = {
            "correction": correction,
            "num_minibatches": 1,
            "batch_size": NUM_TASKS,
            "group_size": GROUP,
        }
        rl = ALGORITHMS.load("grpo")(**settings, iterations=num_steps + 1, evaluate_every=1000)
        await rl.train(session)
    await engine.close()
    return [after - before for before, after in pairwise(marks)], mean(lengths)


def main() -> None:
    import torch
    from transformers.utils.logging import disable_progress_bar

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--correction", default="tis", help="`none` saves us the pass that TRL does not make either")
    given = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    ours, length = asyncio.run(our_seconds(MODEL, given.steps, given.correction))
    theirs, their_length = trl_seconds(MODEL, given.steps)
    print(f"| agentlightning | {mean(ours):.3f} | {min(ours):.3f}–{max(ours):.3f} | {length:.1f} tokens an answer |")
    print(f"| TRL | {mean(theirs):.3f} | {min(theirs):.3f}–{max(theirs):.3f} | {their_length:.1f} tokens an answer |")
    print(f"ratio {mean(ours) / mean(theirs):.2f}")


if __name__ == "__main__":
    main()
