"""What a step costs beside TRL: the same model, prompts, group size, answer length and optimiser steps, in CPU-seconds.

    python -m benchmarks.rl_cost single        # one answer a rollout: TRL's GRPOTrainer as it comes
    python -m benchmarks.rl_cost turns         # four answers a rollout: TRL with a rollout_func
    python -m benchmarks.rl_cost parts         # where our CPU-seconds go

8 prompts × 8 rollouts, float32, random rewards, one optimiser step. Both run in this process, one after the other, on
one thread; the first step of each warms up and is not counted. The demo's model (0.46 million parameters) ends its
answers by itself, at nine tokens or so; the random one of 5 million (`--size 5M`) goes on to the limit. TRL's rollouts
of several turns are written as its documentation shows them: all that are under way go through `generate` together,
whole histories each turn, with what the other side says in between.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.rl_parts import Parts  # noqa: E402
from tests.algorithms.rl_worlds import LocalSession, Team  # noqa: E402

from agentlightning.algorithms import ALGORITHMS  # noqa: E402
from agentlightning.data.task import Task  # noqa: E402
from agentlightning.demo.sql.agent import SYSTEM  # noqa: E402
from agentlightning.demo.sql.tasks import make_tasks  # noqa: E402

DEMO = ROOT / "src" / "agentlightning" / "demo" / "sql" / "model"
NUM_TASKS, GROUP, LENGTH = 8, 8, 32
OBSERVATIONS = ["which column holds the price", "the column c3 holds the price", "the query returned 12 rows"]
"""What is said between the answers of a rollout, whatever they were."""


class Costs(msgspec.Struct):
    """Of the counted steps."""

    seconds: list[float]
    num_tokens: float
    """Mean sampled tokens of a rollout."""
    parts: dict[str, float] = {}
    """CPU-seconds of a step, by part; ours only."""
    waste: float = 0.0
    """Row tokens by trie tokens of a rollout; ours only."""
    computed: float = 0.0
    """Tokens that went through the model in learning, by the tokens of all rows; ours only."""


def messages(question: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def questions(num: int) -> list[str]:
    return [task.input["question"] for task in make_tasks({"train": num})["train"]]  # type: ignore[index]


@contextmanager
def model_of(size: str) -> Iterator[Path]:
    """`demo`, or a random one of `5M` with the demo's tokenizer."""
    if size == "demo":
        yield DEMO
        return
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(DEMO))
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield Path(folder)


async def ours(model: Path, num_steps: int, num_turns: int, parts: Parts | None = None, **settings: Any) -> Costs:
    """Steps of `grpo`, as `LocalSession` runs its rollouts."""
    from agentlightning.data.forest import merge
    from agentlightning.engine.torch.engine import TorchEngine

    lengths, wastes, marks, at_mark = list[int](), list[float](), list[float](), list[dict[str, float]]()

    async def agent(team: Team, task: Task) -> float:
        team.engine, said = Capped(team.engine), messages(str(task.input))
        for turn in range(num_turns):
            await team.ask("solo", list(said))
            reply = team.steps[-1].reply
            assert reply is not None
            said += [reply.message, {"role": "user", "content": OBSERVATIONS[turn % len(OBSERVATIONS)]}]
        lengths.append(sum(len((step.reply and step.reply.completion_ids) or []) for step in team.steps))
        return random.random()

    tasks = [Task(id=f"t{i}", input=question) for i, question in enumerate(questions(NUM_TASKS * (num_steps + 1)))]
    engine = TorchEngine(model, method="full", seed=0)
    with tempfile.TemporaryDirectory() as folder:
        session = LocalSession(agent, Path(folder), engine=engine, tasks=tasks)
        session.validation_tasks = tasks[:1]
        keep, run = session.checkpoint, session.rollout

        async def marked(state: Any) -> None:
            marks.append(time.process_time())
            at_mark.append(parts.seconds() if parts else {})
            await keep(state)

        async def watched(*args: Any, **options: Any) -> Any:
            groups = await run(*args, **options)
            if parts is None:
                wastes.extend(merge(each).waste for group in groups for each in group.trajectories)
            return groups

        session.checkpoint = marked  # type: ignore[method-assign]
        session.rollout = watched  # type: ignore[method-assign]
        common = {"num_minibatches": 1, "batch_size": NUM_TASKS, "group_size": GROUP, "evaluate_every": 1000}
        await ALGORITHMS.load("grpo")(**common, **settings, iterations=num_steps + 1).train(session)
    await engine.close()
    seconds = [after - before for before, after in pairwise(marks)]
    by_part = {name: (at_mark[-1][name] - at_mark[0][name]) / num_steps for name in at_mark[0]}
    computed = mean(session.metric("num_computed_tokens")) / mean(session.metric("num_row_tokens"))
    return Costs(seconds, mean(lengths), by_part, mean(wastes or [0.0]), computed)


class Capped:
    """An engine whose answers have at most LENGTH tokens."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def sample(self, call: Any, **options: Any) -> Any:
        return self.engine.sample(msgspec.structs.replace(call, params=call.params | {"max_tokens": LENGTH}), **options)


def compare(size: str, num_steps: int, num_turns: int, settings: dict[str, Any]) -> None:
    from benchmarks.rl_cost_trl import trl

    with model_of(size) as model:
        mine = asyncio.run(ours(model, num_steps, num_turns, **settings))
        theirs = trl(model, num_steps, num_turns)
    print("| model | answers a rollout | | CPU-seconds a step | range | tokens a rollout |\n" + "|---" * 6 + "|")
    for name, found in (("agentlightning", mine), ("TRL", theirs)):
        low, high = min(found.seconds), max(found.seconds)
        cells = [size, str(num_turns), name, f"{mean(found.seconds):.3f}", f"{low:.3f}–{high:.3f}"]
        print("| " + " | ".join([*cells, f"{found.num_tokens:.1f}"]) + " |")
    print(
        f"\nratio {mean(mine.seconds) / mean(theirs.seconds):.2f}; row tokens / trie tokens of a rollout "
        f"{mine.waste:.3f}; computed in learning / tokens of all rows {mine.computed:.2f}",
        flush=True,
    )


def take_apart(sizes: list[str], num_steps: int, settings: dict[str, Any]) -> None:
    found: list[tuple[str, Costs]] = []
    for size in sizes:
        for num_turns in (1, 4):
            with model_of(size) as model, Parts() as parts:
                found.append(
                    (f"{size}, {num_turns}", asyncio.run(ours(model, num_steps, num_turns, parts, **settings)))
                )
    print("| CPU-milliseconds a step (share) | " + " | ".join(name for name, _ in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for name in found[0][1].parts:
        cells = [f"{1000 * c.parts[name]:.1f} ({c.parts[name] / mean(c.seconds):.1%})" for _, c in found]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("| together | " + " | ".join(f"{1000 * mean(c.seconds):.0f}" for _, c in found) + " |")


def main() -> None:
    import torch
    from transformers.utils.logging import disable_progress_bar

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("single", "turns", "parts"))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--size", nargs="+", choices=("demo", "5M"), default=["demo"])
    parser.add_argument("--correction", default="tis")
    given = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    settings = {"correction": given.correction}
    if given.what == "parts":
        take_apart(given.size, given.steps, settings)
        return
    for size in given.size:
        compare(size, given.steps, 1 if given.what == "single" else 4, settings)


if __name__ == "__main__":
    main()
