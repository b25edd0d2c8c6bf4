"""Can the demo's model learn? Prompt choice, SFT on its own best runs, and GRPO, in a plain loop of its own.

    python benchmarks/demo_model.py --seeds 0 1 2 --making          (about five CPU-minutes a seed)

One row a seed, success on held-out questions, greedy: as it was made, under the chosen instruction lines, after SFT,
after RL from there. `--making` makes a model for each seed first; without, the shipped one learns with other dice. The
product itself does this through interception, engine and algorithms; this is what they are compared with.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.demo_model.making import Recipe, Row, make_model, pad  # noqa: E402
from scripts.demo_model.tokenizer import render  # noqa: E402

from agentlightning.data.task import Task  # noqa: E402
from agentlightning.demo.sql.agent import MAX_TURNS, SYSTEM, TOOLS, use_tool  # noqa: E402
from agentlightning.demo.sql.lines import LINES  # noqa: E402
from agentlightning.demo.sql.tasks import make_tasks  # noqa: E402

SHIPPED = ROOT / "src" / "agentlightning" / "demo" / "sql" / "model"
TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
MAX_NEW_TOKENS = 32


class Settings(NamedTuple):
    """Of SFT and RL; about as in the demo. SFT alone, on eight times as many runs, would do it all."""

    num_train: int = 160
    max_lines: int = 2
    sft_draws: int = 1
    sft_steps: int = 5
    sft_batch_size: int = 16
    sft_learning_rate: float = 5e-4
    rl_steps: int = 20
    tasks_per_step: int = 16
    group_size: int = 8
    num_minibatches: int = 2
    rl_learning_rate: float = 4e-4
    warmup_steps: int = 3
    clip_low: float = 0.2
    clip_high: float = 0.28


class Run:
    """One conversation with the tools' world behind it, in messages for the tools and in ids for the model."""

    def __init__(self, task: Task, prompt: str, tokenizer: Any) -> None:
        self.task, self.tokenizer = task, tokenizer
        messages = [{"role": "system", "content": prompt}, {"role": "user", "content": task.input["question"]}]
        self.ids = render(tokenizer, messages, TOOLS, is_open=True)
        self.is_said = [False] * len(self.ids)
        self.results: list[str] = []
        self.output: str | None = None

    def hear(self, said: list[int]) -> None:
        """Take what the model said: run its tools, or end."""
        self.ids += said
        self.is_said += [True] * len(said)
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        calls = TOOL_CALL.findall(text)
        if not calls:
            self.output = text.strip()
            return
        for call in calls:
            self.results.append(self._use(call))
            heard = self.tokenizer.encode(f"<|tool|>{self.results[-1]}<|end|>", add_special_tokens=False)
            self._append(heard)
        self._append(self.tokenizer.encode("<|assistant|>", add_special_tokens=False))

    @property
    def reward(self) -> float:
        return float(self.output == self.task.expected and self.output in self.results)

    def _append(self, ids: list[int]) -> None:
        self.ids += ids
        self.is_said += [False] * len(ids)

    def _use(self, call: str) -> str:
        try:
            asked = json.loads(call)
        except ValueError as error:
            return f"error: {error}"
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(self.task.input["database"])
            return use_tool(connection, asked["name"], json.dumps(asked["arguments"]))


class Learner:
    """The model with what learning it takes."""

    def __init__(self, folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def run(self, tasks: list[Task], prompt: str, *, temperature: float = 0.0) -> list[Run]:
        runs = [Run(task, prompt, self.tokenizer) for task in tasks]
        for _ in range(MAX_TURNS):
            going = [run for run in runs if run.output is None]
            if not going:
                break
            for run, said in zip(going, self._say(going, temperature), strict=True):
                run.hear(said)
        return runs

    def success(self, tasks: list[Task], prompt: str, *, temperature: float = 0.0) -> float:
        return mean(run.reward for run in self.run(tasks, prompt, temperature=temperature))

    @torch.no_grad()
    def _say(self, runs: list[Run], temperature: float) -> list[list[int]]:
        longest = max(len(run.ids) for run in runs)
        end, nothing = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        ids = torch.tensor([[nothing] * (longest - len(run.ids)) + run.ids for run in runs])
        mask = torch.tensor([[0] * (longest - len(run.ids)) + [1] * len(run.ids) for run in runs])
        chosen = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        out = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=MAX_NEW_TOKENS, **chosen)
        said = [row[longest:].tolist() for row in out]
        return [row[: row.index(end) + 1] if end in row else row for row in said]

    def logprobs(self, runs: list[Run]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of what was said, and where that is; both (runs, longest - 1)."""
        ids, mask, labels = pad([Row(run.ids, run.is_said) for run in runs], self.tokenizer.pad_token_id)
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        logprobs = torch.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]
        return logprobs, (labels[:, 1:] != -100).float()

    def sft(self, tasks: list[Task], prompt: str, settings: Settings, seed: int) -> int:
        """Imitate its own successes; returns how many there were."""
        best = [run for run in self.run(tasks * settings.sft_draws, prompt, temperature=1.0) if run.reward]
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.sft_learning_rate, betas=(0.9, 0.95))
        dice = random.Random(seed)
        for _ in range(settings.sft_steps):
            logprobs, said = self.logprobs(dice.sample(best, min(settings.sft_batch_size, len(best))))
            self._step(optimizer, -(logprobs * said).sum() / said.sum())
        return len(best)

    def rl(self, tasks: list[Task], prompt: str, settings: Settings, seed: int) -> list[float]:
        """GRPO; the mean reward of every step's rollouts."""
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.rl_learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        dice, curve = random.Random(seed), list[float]()
        for step in range(settings.rl_steps):
            rate = min(1.0, (step + 1) / settings.warmup_steps) * (1 - 0.9 * step / settings.rl_steps)
            optimizer.param_groups[0]["lr"] = settings.rl_learning_rate * rate
            chosen = [task for task in dice.sample(tasks, settings.tasks_per_step) for _ in range(settings.group_size)]
            runs = self.run(chosen, prompt, temperature=1.0)
            rewards = torch.tensor([run.reward for run in runs]).view(-1, settings.group_size)
            advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 0.1)
            kept = [(run, a) for run, a in zip(runs, advantages.flatten().tolist(), strict=True) if a]
            curve.append(rewards.mean().item())
            dice.shuffle(kept)
            self._policy_steps(optimizer, kept, settings)
        return curve

    def _policy_steps(self, optimizer: Any, kept: list[tuple[Run, float]], settings: Settings) -> None:
        size = -(-len(kept) // settings.num_minibatches)
        batches = [kept[start : start + size] for start in range(0, len(kept), size)] if kept else []
        with torch.no_grad():
            before = [self.logprobs([run for run, _ in batch])[0] for batch in batches]
        for batch, old in zip(batches, before, strict=True):
            logprobs, said = self.logprobs([run for run, _ in batch])
            advantage = torch.tensor([a for _, a in batch])[:, None]
            ratio = (logprobs - old).exp()
            clipped = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            self._step(optimizer, -(gain * said).sum() / said.sum())

    def _step(self, optimizer: Any, loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def choose_lines(learner: Learner, tasks: list[Task], max_lines: int) -> tuple[str, float]:
    """The best prompt found by adding one line after the other, and the worst score on the way."""
    best, score, worst = SYSTEM, learner.success(tasks, SYSTEM), 1.0
    for _ in range(max_lines):
        tried = [f"{best}\n{wordings[0]}" for wordings in LINES.values() if wordings[0] not in best]
        scores = {prompt: learner.success(tasks, prompt) for prompt in tried}
        worst = min(worst, *scores.values())
        top = max(scores, key=lambda prompt: scores[prompt])
        if scores[top] <= score:
            break
        best, score = top, scores[top]
    return best, worst


def measure(folder: Path, seed: int, settings: Settings) -> dict[str, Any]:
    began = time.process_time()
    tasks = make_tasks({"train": settings.num_train, "validation": 100, "test": 200}, seed)
    learner = Learner(folder, seed)
    test = tasks["test"]
    found: dict[str, Any] = {"seed": seed, "default": learner.success(test, SYSTEM)}
    found["sampled"] = learner.success(test, SYSTEM, temperature=1.0)
    best, found["worst lines"] = choose_lines(learner, tasks["validation"], settings.max_lines)
    found |= {"lines": " ".join(best.splitlines()[1:]), "chosen": learner.success(test, best)}
    if settings.sft_steps:
        found["successes"] = learner.sft(tasks["train"], best, settings, seed)
    found["sft"] = learner.success(test, best)
    found["curve"] = learner.rl(tasks["train"], best, settings, seed)
    found["rl"] = learner.success(test, best)
    found["rl sampled"] = learner.success(test, best, temperature=1.0)
    found["cpu"] = time.process_time() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--making", action="store_true", help="make a model of its own for every seed")
    parser.add_argument("--without-sft", action="store_true", help="RL from the chosen prompt, nothing between")
    given = parser.parse_args()
    settings = Settings(sft_steps=0) if given.without_sft else Settings()
    torch.set_num_threads(1)
    disable_progress_bar()
    columns = ("seed", "default", "sampled", "chosen", "sft", "rl", "rl sampled", "cpu")
    print("  ".join(f"{name:>8}" for name in columns), " chosen lines", flush=True)
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            if given.making:
                make_model(Path(folder), Recipe(seed=seed))
            found = measure(Path(folder) if given.making else SHIPPED, seed, settings)
        shown = [f"{found[name]:8.3f}" if isinstance(found[name], float) else f"{found[name]:8}" for name in columns]
        print("  ".join(shown), "", found["lines"], flush=True)
        print("    rewards of the RL steps:", " ".join(f"{value:.2f}" for value in found["curve"]), flush=True)


if __name__ == "__main__":
    main()
