"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere.

`progress_lines` is the same for programs.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Literal

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from agentlightning.algorithms.base import Decision, Evaluation
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.result import TrainingResult

ProgressMode = Literal["auto", "rich", "plain", "jsonl", "off"]
_PLAIN_EVERY_SECONDS = 10.0
_WIDTH = 1.96
"""Standard errors on either side of a mean that a 95 % interval takes."""


class _Screen(Console):
    """A console whose reader may go away (`… 2>&1 | head`): a run that is paid for goes on without one."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class ConsoleProgress(Callback):
    """Lines on stderr for what happens, and where that is a terminal, a bar per stage."""

    def __init__(self, console: Console | None = None, *, has_bars: bool | None = None) -> None:
        self.console = console or _Screen(stderr=True, highlight=False)
        self._has_bars = self.console.is_terminal if has_bars is None else has_bars
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._stage = ""
        self._asked = 0
        self._estimate = 0
        self._done = 0
        self._rewards: list[float] = []
        self._num_calls = 0
        self._usd = 0.0
        self._said_at = 0.0

    def on_run_start(self, run_id: str, plan: list[str]) -> None:
        self._say(f"[bold]Agent Lightning[/bold] {run_id}")
        for line in plan:
            self._say(f"  {_plain(line)}")
        if self._has_bars:
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),
                MofNCompleteColumn(),
                TextColumn("{task.fields[reward]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
            )
            self._bars.start()

    def on_stage_start(self, stage: str, text: str) -> None:
        self._end_bar()
        self._stage, self._asked, self._done, self._estimate, self._rewards = stage, 0, 0, 0, []
        self._said_at = time.monotonic()
        self._say(f"{_plain(stage)}: {_plain(text)}")
        if self._bars is not None:
            self._bar = self._bars.add_task(stage, total=None, reward="")

    def on_estimate(self, stage: str, num_rollouts: int) -> None:
        self._estimate += num_rollouts

    def on_work(self, stage: str, num_rollouts: int) -> None:
        self._asked += num_rollouts
        self._update()

    def on_rollout_end(self, trajectory: Trajectory) -> None:
        self._done += 1
        self._num_calls += len(trajectory.model_steps)
        self._usd += trajectory.usd or 0.0
        if trajectory.reward is not None:
            self._rewards.append(trajectory.reward)
        self._update()

    def on_evaluation(self, stage: str, evaluation: Evaluation) -> None:
        if stage == "baseline":
            self._say(f"  the original scores {evaluation.mean:.3f} on {len(evaluation.scores)} validation tasks")

    def on_candidate(self, stage: str, candidate: Policy, decision: Decision, reason: str) -> None:
        mark = {"accepted": "[green]✓ accepted[/green]", "rejected": "· rejected", "refused": "× refused"}[decision]
        self._say(f"  {mark} {candidate.id}: {_plain(reason)}")

    def on_log(self, stage: str, text: str, metrics: dict[str, float]) -> None:
        self._say(f"  {_plain(text)}")

    def on_note(self, text: str) -> None:
        self._say(f"  [yellow]note:[/yellow] {_plain(text)}")

    def on_run_end(self, result: TrainingResult) -> None:
        self.close()
        self._say("")
        self._say(_plain(result.summary()))

    def on_interrupt(self) -> None:
        self._say("stopping: what is in flight is finished and saved. Ctrl-C again stops at once.")

    def on_run_error(self, error: BaseException) -> None:
        self.close()
        if isinstance(error, KeyboardInterrupt):
            self._say("stopped; what was done is kept. trainer.train(tasks, resume=True) carries on")

    def close(self) -> None:
        """Take the bars away."""
        self._end_bar()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _update(self) -> None:
        reward = self._so_far()
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=self._done, total=self._total() or None, reward=reward)
        elif time.monotonic() - self._said_at > _PLAIN_EVERY_SECONDS and self._done:
            self._said_at = time.monotonic()
            self._say(f"  {self._stage}: {self._done} of {self._total()} rollouts {reward}")

    def on_own_call(self, role: str, usd: float | None) -> None:
        self._num_calls += 1
        self._usd += usd or 0.0

    def _total(self) -> int:
        """What will be asked for at most; so the time left is at most what is shown."""
        return max(self._asked, self._estimate)

    def _so_far(self) -> str:
        """Of this stage the mean reward with its 95 % interval, of the run the calls and what they cost."""
        spent = f"{self._num_calls:,} calls" + (f" ${self._usd:.4f}" if self._usd else "")
        n = len(self._rewards)
        if not n:
            return spent
        mean = sum(self._rewards) / n
        variance = sum((reward - mean) ** 2 for reward in self._rewards) / max(1, n - 1)
        spread = _WIDTH * math.sqrt(variance / n)
        return f"reward {mean:.3f}{f' ± {spread:.3f}' if n > 1 else ''} · {spent}"

    def _end_bar(self) -> None:
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=self._done, total=self._done)
        self._bar = None

    def _say(self, text: str) -> None:
        """A line of its own, however long; on a terminal broken between words, and as far in as it begins."""
        if not self.console.is_terminal:
            self.console.print(text, soft_wrap=True)
            return
        shown = Text.from_markup(text.lstrip(" "))
        self.console.print(Padding(shown, (0, 0, 0, len(text) - len(text.lstrip(" ")))), soft_wrap=False)


def progress_for(mode: ProgressMode | bool) -> list[Callback]:
    """Who listens for a mode of `trainer.progress`: bars, lines or JSON lines; nobody for off."""
    if mode is False or mode == "off":
        return []
    if mode == "jsonl":
        from agentlightning.trainer.progress_lines import JsonLinesProgress

        return [JsonLinesProgress()]
    console = _Screen(stderr=True, highlight=False, file=sys.stderr)
    return [ConsoleProgress(console, has_bars={"rich": True, "plain": False}.get(str(mode)))]


def _plain(text: str) -> str:
    """Text that may hold square brackets, kept from being read as markup."""
    return text.replace("[", "\\[")
