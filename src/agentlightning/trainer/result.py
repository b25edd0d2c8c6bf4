"""What a training run hands back: the policy, what was measured, what it cost, and how it came about.

One JSON-able struct. The summary, the notebook view and the report are all written from it alone, so a result that was
saved says the same years later.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, Literal

import msgspec

from agentlightning.algorithms.base import Decision
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Split
from agentlightning.errors import DataError
from agentlightning.trainer import result_views, wording
from agentlightning.trainer.evaluation import MIN_TEST_TASKS, Verdict
from agentlightning.trainer.result_views import Table

_MAX_SUMMARY_LINES = 15


class Cost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the run spent, counted at the wire."""

    calls: int = 0
    task_calls: int = 0
    """Model calls the agent made."""
    optimizer_calls: int = 0
    judge_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    """None when the price of a model is not known."""
    lost_calls: int = 0
    """Model calls beside these: of rollouts that an interruption cut off, and that were run anew."""
    seconds: float = 0.0


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision about one candidate."""

    policy_id: str
    parent_id: str
    decision: Decision
    reason: str
    stage: str = ""
    iteration: int = 0
    """The algorithm's own round, counted from 1, as in its log."""
    validation_mean: float | None = None
    """None for a candidate that was refused before it was run."""
    site: str | None = None
    idea: str | None = None
    edits: list[dict[str, Any]] = []
    """What it changes: `kind` (add, delete, reword, merge, reorder, swap demos), `site` (or `agent`), the `old` lines
    and the `new` one, and `from_rounds`, the round that had brought in each old line (None: the original text)."""


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task under the original and under the best new version. Rewards are means over the repeats."""

    task_id: str
    split: Split
    input: str | dict[str, Any]
    expected: Any = None
    baseline_reward: float | None = None
    final_reward: float | None = None
    baseline_output: Any = None
    final_output: Any = None
    baseline_reason: str | None = None
    final_reason: str | None = None
    metadata: dict[str, Any] = {}
    """The task's own."""

    @property
    def outcome(self) -> Literal["won", "lost", "same", "unjudged"]:
        """How the new version did here; unjudged when either side has no reward."""
        if self.baseline_reward is None or self.final_reward is None:
            return "unjudged"
        change = self.final_reward - self.baseline_reward
        return "won" if change > 1e-9 else "lost" if change < -1e-9 else "same"


class Winner(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stage passed on, beside the original on the same tasks as everything else that was measured at the end."""

    policy_id: str
    final: float
    difference: float
    """Mean paired difference to the original."""
    interval: tuple[float, float] | None = None
    """Of that difference; all winners' intervals hold together in 95 % of runs."""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a stage told as it learned, in order."""

    stage: str
    name: str
    values: list[float]


class TrainingResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of `Trainer.train`. Rewards are means; higher is better."""

    policy: Policy
    """The policy handed back; the original when the verdict is "kept original"."""
    verdict: Verdict
    baseline: float | None = None
    """The original's mean reward on the held-out test, or on validation when nothing is held out."""
    final: float | None = None
    """The same for the policy handed back."""
    difference: float | None = None
    """Mean paired difference of the best new version to the original, also when that one is not handed back."""
    interval: tuple[float, float] | None = None
    """95 % interval of that difference; None when nothing or too little was held out."""
    p_value: float | None = None
    num_test_tasks: int = 0
    winners: list[Winner] = []
    """What each stage passed on, in their order."""
    curves: list[Curve] = []
    """What stages told of themselves as they learned."""
    cost: Cost = Cost()
    history: list[HistoryEntry] = []
    tasks: list[TaskOutcome] = []
    sites: list[PromptSite] = []
    """Every prompt site that was found, changed or not."""
    untried: str = ""
    """Why no new version was measured, where that is so."""
    notes: list[str] = []
    run_id: str = ""
    agent_id: str = ""
    output_dir: str = ""
    reward_source: str = ""
    """Where the rewards came from, as the run announced it."""
    started_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def prompts(self) -> dict[str, str]:
        """Site id → its new text; empty when the original was kept."""
        return self.policy.prompts

    @property
    def headline(self) -> str:
        """The verdict in a few words and two numbers."""
        before, after = (wording.number(v) if v is not None else "not measured" for v in (self.baseline, self.final))
        if self.verdict == "improved":
            return f"Improved from {before} to {after}"
        if self.verdict == "not shown":
            return f"Improvement not shown: {before} before, {after} after"
        if self.untried:
            return "Kept the original: no new version was measured"
        return "Kept the original" + (f": nothing scored higher than {before}" if self.baseline is not None else "")

    @property
    def evidence(self) -> str:
        """What the verdict rests on, in one or two plain sentences."""
        if self.verdict == "kept original":
            return self._why_kept()
        change = wording.signed(self.difference) if self.difference is not None else "higher"
        if self.num_test_tasks == 0:
            return (
                f"No tasks were held out, so the difference ({change}) comes from tasks the search has seen and shows "
                "nothing yet. The version that scored higher is handed back."
            )
        tasks = f"On {wording.counted(self.num_test_tasks, 'task')} the search never saw"
        if self.interval is None or self.p_value is None:
            return (
                f"{tasks}, the average reward changed by {change}; that is too few to show anything (at least "
                f"{MIN_TEST_TASKS} are needed). The version that scored higher is handed back."
            )
        span = f"95 % interval {self._span()}, {wording.p_value(self.p_value)}"
        if self.verdict == "improved":
            return f"{tasks}, the average reward changed by {change} ({span}). The interval excludes zero."
        return (
            f"{tasks}, the average reward changed by {change} ({span}). The interval includes zero, so this "
            "may be luck. The version that scored higher is handed back."
        )

    def diff(self) -> str:
        """Every change as text: a unified diff per prompt site, then demos, models and sampling."""
        blocks: list[str] = []
        for site_id, text in self.policy.prompts.items():
            old = self.policy.site(site_id).template
            blocks.append(
                "\n".join([f"--- {site_id} (original)", f"+++ {site_id} (new)", *wording.line_diff(old, text)])
            )
        if others := other_changes(self.policy):
            blocks.append("\n".join(others))
        return "\n\n".join(blocks)

    def summary(self) -> str:
        """At most 15 lines: the verdict, what it rests on, the cost, where the prompt is, and what changed."""
        lines = [f"{self.headline}.", self.evidence, *self._stages_line(), f"Cost: {self.cost_line()}."]
        if self.output_dir:
            lines.append(f"Saved: {Path(self.output_dir) / 'policy.yaml'}")
        lines += [f"Note: {note}" for note in self.notes[:4]]
        if len(self.notes) > 4:
            lines.append(f"({wording.counted(len(self.notes) - 4, 'more note')} in result.notes)")
        changed = self.diff().splitlines()
        room = _MAX_SUMMARY_LINES - len(lines)
        if len(changed) > room:
            rest = len(changed) - (room - 1)
            changed = [*changed[: room - 1], f"… {wording.counted(rest, 'more line')}: print(result.diff())"]
        return "\n".join([*lines, *changed])

    @property
    def points(self) -> float:
        """The gain on held-out tasks, in hundredths of the reward; 0.0 when there is none, or none were held out."""
        gained = self.difference if self.num_test_tasks and self.verdict != "kept original" else None
        return max(0.0, 100 * gained) if gained else 0.0

    def price_of_a_point(self) -> str | None:
        """What one point cost, in money (where prices are known) and model calls; None when no point was gained."""
        if not self.points:
            return None
        calls = wording.counted(round(self.cost.calls / self.points), "model call")
        return calls if self.cost.usd is None else f"{wording.dollars(self.cost.usd / self.points)}, {calls}"

    def tree(self) -> str:
        """Every version that was tried, each under the one it came from, as indented text."""
        return result_views.tree(self)

    def cost_line(self) -> str:
        """Calls by who made them, tokens, money and time, in one line."""
        cost = self.cost
        parts = [("task", cost.task_calls), ("optimizer", cost.optimizer_calls), ("judge", cost.judge_calls)]
        split = ", ".join(f"{count:,} {name}" for name, count in parts if count)
        calls = wording.counted(cost.calls, "model call") + (f" ({split})" if split else "")
        calls += f", {cost.lost_calls:,} more lost to an interruption" if cost.lost_calls else ""
        tokens = f"{cost.input_tokens:,} tokens in, {cost.output_tokens:,} out"
        return f"{calls}, {tokens}, {wording.dollars(cost.usd)}, {wording.duration(cost.seconds)}"

    def to_pandas(self, table: Table = "tasks") -> Any:
        """A DataFrame: `tasks` as measured under the original and the new version, or the `history` of decisions."""
        return result_views.to_pandas(self, table)

    def plot(self, axes: Any = None) -> Any:
        """The learning curve with the original's band, on matplotlib's `axes` (new ones when not given)."""
        return result_views.plot(self, axes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able builtins; fields at their default are left out."""
        return msgspec.to_builtins(self)

    def to_json(self) -> bytes:
        """Indented UTF-8 JSON, read back by `from_json`."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    @classmethod
    def from_json(cls, data: bytes | str) -> TrainingResult:
        """The result that `to_json` wrote; DataError, naming the field, when it is something else."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise DataError(
                f"this is not a training result: {error}. Give what TrainingResult.to_json wrote."
            ) from error

    def __repr__(self) -> str:
        """Short: what it says, and where to read on. The fields are many pages."""
        where = f", {self.output_dir}" if self.output_dir else ""
        return f"<TrainingResult: {self.headline}; {self.cost.calls:,} calls{where}; print(result.summary()) says more>"

    def _repr_html_(self) -> str:
        changes = html.escape(self.diff())
        details = f"<details><summary>What changed</summary><pre>{changes}</pre></details>" if changes else ""
        facts = [self.evidence, f"Cost: {self.cost_line()}.", *self.notes]
        if outcomes := result_views.outcomes(self):
            facts.insert(1, f"Task by task: {outcomes}.")
        colour = result_views.verdict_colour(self)
        return (
            f'<div style="max-width:46rem;padding:.6rem 1rem;border:1px solid #8886;border-left:4px solid {colour}">'
            f"<strong>{html.escape(self.headline)}</strong>"
            + "".join(f'<p style="margin:.4rem 0">{html.escape(fact)}</p>' for fact in facts)
            + f"{details}</div>"
        )

    def _span(self) -> str:
        assert self.interval is not None
        return f"{wording.signed(self.interval[0])} to {wording.signed(self.interval[1])}"

    def stage_of(self, policy_id: str) -> str:
        """The stage that found a version; empty when it was put together from several."""
        return next((entry.stage for entry in self.history if entry.policy_id == policy_id), "")

    def _stages_line(self) -> list[str]:
        if len(self.winners) < 2:
            return []
        parts = [f"{self.stage_of(w.policy_id) or w.policy_id} {wording.number(w.final)}" for w in self.winners]
        return [f"Stage by stage on the same tasks: {', '.join(parts)}."]

    def _why_kept(self) -> str:
        if self.untried:
            return f"{self.untried[:1].upper()}{self.untried[1:].rstrip('.')}. So the agent stays as it was."
        if self.difference is None:
            return "No new version scored higher on the validation tasks, so the agent stays as it was."
        where = (
            f"On {wording.counted(self.num_test_tasks, 'task')} the search never saw"
            if self.num_test_tasks
            else "On the tasks of the search"
        )
        span = f" (95 % interval {self._span()})" if self.interval else ""
        change = wording.signed(self.difference)
        return (
            f"{where}, the best new version differed by {change}{span}. It is not higher, so the agent stays as it was."
        )


def other_changes(policy: Policy) -> list[str]:
    """A line for each change that is not prompt text: demos, models, sampling."""
    lines = [f"+ {agent}: {wording.counted(len(demos), 'worked example')}" for agent, demos in policy.demos.items()]
    lines += [f"+ {agent}: model {model}" for agent, model in policy.models.items()]
    lines += [
        f"+ {agent}: {key} = {value!r}" for agent, params in policy.sampling.items() for key, value in params.items()
    ]
    return lines
