"""The report's sections, top to bottom. Each takes the result and gives HTML, or nothing when it has nothing to say."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from agentlightning.algorithms.base import Decision
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.trainer import wording
from agentlightning.trainer.evaluation import Verdict
from agentlightning.trainer.report import charts
from agentlightning.trainer.result import HistoryEntry, TaskOutcome, TrainingResult, other_changes
from agentlightning.trainer.slices import slices

escape = html.escape

TONES: dict[Verdict, str] = {"improved": "improved", "not shown": "not-shown", "kept original": "kept-original"}
"""Verdict → the page's colour class."""

_MARKS = {"won": "▲", "lost": "▼", "same": "=", "unjudged": "?"}
_MAX_ROWS = 20
"""Tasks shown at once; the rest unfolds."""
_MAX_SHOWN = 4_000
"""Characters of one input or output; the store has the rest."""


def masthead(result: TrainingResult) -> str:
    when = datetime.fromtimestamp(result.started_at, UTC).strftime("%d %B %Y, %H:%M UTC") if result.started_at else ""
    parts = [part for part in (result.agent_id, result.run_id, when) if part]
    return f"<b>Agent Lightning</b> <span>{escape(' · '.join(parts))}</span>"


def verdict(result: TrainingResult) -> str:
    """The claim, its evidence, and the numbers as a drawing."""
    facts: list[tuple[str, str]] = []
    if result.num_test_tasks:
        facts.append(("held-out tasks", f"{result.num_test_tasks:,}"))
    counts = Counter(task.outcome for task in measured_tasks(result))
    if counts:
        facts.append(("won · lost · same", f"{counts['won']} · {counts['lost']} · {counts['same']}"))
    price = [("cost", wording.dollars(result.cost.usd))] if result.cost.usd is not None else []
    facts += [*price, ("model calls", f"{result.cost.calls:,}"), ("time", wording.duration(result.cost.seconds))]
    evidence = escape(result.evidence).replace(" %", "&nbsp;%")
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f'<section class="verdict"><p class="pill">{escape(result.verdict)}</p><h1>{escape(result.headline)}</h1>'
        f'<p class="lead">{evidence}</p>{charts.comparison(result, "New version")}'
        f'<dl class="facts">{cells}</dl></section>'
    )


def notes(result: TrainingResult) -> str:
    if not result.notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in result.notes)
    return f'<section class="notes"><h2>Worth knowing</h2><ul>{items}</ul></section>'


def changes(result: TrainingResult) -> str:
    """The new prompts against the old ones, word by word."""
    policy = result.policy
    blocks = [_site_change(policy.site(site_id), text) for site_id, text in policy.prompts.items()]
    blocks += [_demos(policy)] if policy.demos else []
    settings = [line for line in other_changes(policy) if not line.endswith(("worked example", "worked examples"))]
    if settings:
        blocks.append(f'<pre class="text">{escape(chr(10).join(settings))}</pre>')
    if not blocks:
        blocks.append("<p>Nothing: the agent runs as it did before.</p>")
    if policy.prompts:
        old, new = sum(len(policy.site(id).template) for id in policy.prompts), sum(map(len, policy.prompts.values()))
        blocks.append(f'<p class="soft">Length of these prompts: {old:,} characters before, {new:,} now.</p>')
    if untouched := [site.id for site in result.sites if site.id not in policy.prompts]:
        blocks.append(f'<p class="soft">Unchanged: {escape(", ".join(untouched))}</p>')
    return f"<section><h2>What changed</h2>{''.join(blocks)}</section>"


def stages(result: TrainingResult) -> str:
    """What each stage added, where there were several: all measured at the end, on the same tasks."""
    if len(result.winners) < 2 or result.baseline is None:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("after", "version", "reward", "against the original"))
    rows = [f"<tr><td>–</td><td>original</td><td>{wording.number(result.baseline)}</td><td></td></tr>"]
    for winner in result.winners:
        span = " to ".join(map(wording.signed, winner.interval)) if winner.interval else "no interval"
        stage = result.stage_of(winner.policy_id) or "several"
        change = f"{wording.signed(winner.difference)} <small>{span}</small>"
        cells = [escape(stage), escape(winner.policy_id), wording.number(winner.final), change]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    where = "the held-out tasks, once and together" if result.num_test_tasks else "tasks the search has seen"
    return (
        f'<section><h2>Stage by stage</h2><p class="soft">Measured on {where}; the intervals are widened so that all '
        f'of them hold in 95 of 100 runs.</p><table class="stages"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></section>"
    )


def tasks(result: TrainingResult) -> str:
    """Every task with both outputs; those that got worse come first."""
    measured = measured_tasks(result)
    if not measured:
        return ""
    held_out = "the search never saw" if result.num_test_tasks else "the search has seen"
    counts = Counter(task.outcome for task in measured)
    names = [name for name in ("won", "same", "lost", "unjudged") if counts[name]]
    bar = charts.split_bar([(name, counts[name]) for name in names])
    choices = "".join(
        f'<input type="radio" name="show" id="show-{name}"{" checked" if name == "all" else ""}>'
        f'<label for="show-{name}">{name} {len(measured) if name == "all" else counts[name]}</label>'
        for name in ["all", *names]
    )
    rows = _task_rows(measured)
    parts = [*rows[:_MAX_ROWS], _folded(rows[_MAX_ROWS:], "more task")]
    others = _task_rows([task for task in result.tasks if task not in measured])
    intro = f"{wording.counted(len(measured), 'task')} {held_out}. Open one to read both answers."
    return (
        f'<section class="tasks"><h2>Task by task</h2><p class="soft">{intro}</p>{bar}'
        f'<div class="filter">{choices}</div>{"".join(parts)}{_folded(others, "task", " of the search")}</section>'
    )


def kinds(result: TrainingResult) -> str:
    """Kinds of task, and which of them got worse."""
    found = slices(measured_tasks(result))
    if not found:
        return ""
    head = "".join(f"<th>{name}</th>" for name in ("kind", "tasks", "before", "after", "won", "lost"))
    rows = "".join(
        f'<tr><th scope="row">{escape(one.name)}: {escape(one.value)}</th><td>{one.count}</td>'
        f"<td>{wording.number(one.before)}</td><td>{wording.number(one.after)}</td>"
        f"<td>{one.num_won}</td><td>{one.num_lost}</td></tr>"
        for one in found
    )
    table = f'<table class="cost"><tr>{head}</tr>{rows}</table>'
    note = '<p class="soft">Groups this small show where to look and prove nothing.</p>'
    return f"<section><h2>Kinds of task</h2>{note}{table}</section>"


def search(result: TrainingResult) -> str:
    """How it got there: the chart, the tree of versions, and every decision with its reason."""
    if not result.history:
        return ""
    decisions = Counter(entry.decision for entry in result.history)
    tally = ", ".join(f"{decisions[name]} {name}" for name in get_args(Decision) if decisions[name])
    entries = "".join(_decision(entry, len({e.stage for e in result.history}) > 1) for entry in result.history)
    is_open = " open" if len(result.history) <= 12 else ""
    proof = "; only the held-out test above is evidence" if result.num_test_tasks else ", so they prove nothing"
    return (
        f'<section class="search"><h2>How the search went</h2><p class="soft">{tally}. Scores are means on validation '
        f"tasks, which the search may learn from{proof}.</p>"
        f"{charts.progress(result.history)}{_lineage(result)}{_curves(result)}"
        f"<details{is_open}><summary>Every version and why it was accepted or not</summary>"
        f'<ol class="history">{entries}</ol></details></section>'
    )


def cost(result: TrainingResult) -> str:
    spent = result.cost
    rows = [
        ("Calls by the agent", f"{spent.task_calls:,}"),
        ("Calls by the optimizer", f"{spent.optimizer_calls:,}"),
        ("Calls by the judge", f"{spent.judge_calls:,}"),
        ("All model calls", f"{spent.calls:,}"),
        ("Tokens in", f"{spent.input_tokens:,}"),
        ("Tokens out", f"{spent.output_tokens:,}"),
        ("Price", wording.dollars(spent.usd)),
        *([("One point (0.01) more cost", price)] if (price := result.price_of_a_point()) else []),
        ("Wall time", wording.duration(spent.seconds)),
    ]
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows)
    return f'<section><h2>What it cost</h2><table class="cost">{cells}</table></section>'


def method(result: TrainingResult) -> str:
    """How to read the numbers, in plain words and only as far as they apply."""
    paragraphs: list[str] = []
    if result.reward_source:
        paragraphs.append(f"Rewards came from: {result.reward_source}.")
    if result.num_test_tasks:
        paragraphs.append(
            "Some tasks were set aside before the search began and used once, at the end. The original agent and the "
            "best new version both ran on each of them, and their rewards were subtracted task by task, so easy and "
            "hard tasks weigh alike on both sides."
        )
    else:
        paragraphs.append("No tasks were set aside, so the numbers come from tasks the search could adapt to.")
    if result.interval is not None:
        paragraphs.append(
            "The interval says where the true average difference may lie, given how few tasks there were: intervals "
            "made this way hold it in about 95 of 100 runs. It assumes nothing about how rewards are spread, and "
            "allows for a rare large loss that did not happen to show up. “Improved” is said only when all of it lies "
            "above zero."
        )
    paragraphs.append(
        "The original agent is handed back unless the new version’s average is higher. A task where the new version "
        "ended without a reward counts as the lowest reward, so breaking is never an advantage."
    )
    return (
        f"<section><h2>How this was measured</h2>{''.join(f'<p>{escape(text)}</p>' for text in paragraphs)}</section>"
    )


def footer(result: TrainingResult) -> str:
    where = f" · {escape(result.output_dir)}" if result.output_dir else ""
    return f"Policy {escape(result.policy.id)}{where} · This page is one file; it loads nothing and runs no script."


def measured_tasks(result: TrainingResult) -> list[TaskOutcome]:
    """The tasks the claim rests on: the held-out ones, else those of validation, else all."""
    for split in ("test", "validation"):
        if found := [task for task in result.tasks if task.split == split]:
            return found
    return list(result.tasks)


def _site_change(site: PromptSite, text: str) -> str:
    lengths = f"{len(site.template):,} → {len(text):,} characters"
    places = {"system": "instructions", "prefix": "start of the first user message"}
    where = places.get(site.kind) or f"description of the tool {escape(site.tool)}"
    whole = f'<pre class="text whole">{_with_slots(text)}</pre>'
    return (
        f'<article class="site"><h3>{escape(site.id)}</h3><p class="soft">{escape(site.agent)}, {where} · {lengths}</p>'
        f'<div class="text diff">{_word_diff(site.template, text)}</div>'
        f"<details><summary>The new text on its own</summary>{whole}</details></article>"
    )


def _word_diff(old: str, new: str) -> str:
    tags = {"same": "{}{}", "removed": "{}<del>{}</del>", "added": "{}<ins>{}</ins>"}
    parts: list[str] = []
    for kind, text in wording.word_changes(old, new):
        # White space before a changed word stands outside, so that the + or − sits at the word.
        words = text.lstrip() or text
        parts.append(tags[kind].format(text[: len(text) - len(words)], _with_slots(words)))
    return "".join(parts)


def _with_slots(text: str) -> str:
    return re.sub(r"⟦[^⟦⟧]*⟧", r'<span class="slot">\g<0></span>', escape(text))


def _demos(policy: Policy) -> str:
    blocks: list[str] = []
    for agent, demos in policy.demos.items():
        turns = "".join(
            f'<dt>Input</dt><dd class="text">{_clipped(demo.input)}</dd>'
            f'<dt>Answer</dt><dd class="text">{_clipped(demo.output)}</dd>'
            for demo in demos
        )
        title = f"{wording.counted(len(demos), 'worked example')} shown to {agent}"
        blocks.append(f"<details><summary>{escape(title)}</summary><dl>{turns}</dl></details>")
    return f'<article class="site">{"".join(blocks)}</article>'


def _folded(rows: Sequence[str], noun: str, which: str = "") -> str:
    if not rows:
        return ""
    return (
        f'<details class="more"><summary>{wording.counted(len(rows), noun)}{which}</summary>{"".join(rows)}</details>'
    )


def _task_rows(tasks: Sequence[TaskOutcome]) -> list[str]:
    order = {"lost": 0, "won": 1, "unjudged": 2, "same": 3}
    ranked = sorted(tasks, key=lambda task: (order[task.outcome], -abs(_change(task))))
    return [_task_row(task) for task in ranked]


def _task_row(task: TaskOutcome) -> str:
    fields = [task.input] if isinstance(task.input, str) else [wording.plain_text(v) for v in task.input.values()]
    title = " · ".join(" ".join(field.split()) for field in fields)[:160]
    numbers = " → ".join(
        wording.number(v) if v is not None else "none" for v in (task.baseline_reward, task.final_reward)
    )
    asked = _field("Input", task.input) + (_field("Expected", task.expected) if task.expected is not None else "")
    sides = _side("Original", task.baseline_output, task.baseline_reason)
    sides += _side("New version", task.final_output, task.final_reason)
    return (
        f'<details class="task {task.outcome}"><summary><span class="mark" title="{task.outcome}">'
        f'{_MARKS[task.outcome]}<span class="hidden"> {task.outcome}</span></span>'
        f'<span class="title">{escape(title)}</span><span class="numbers">{numbers}</span></summary>'
        f'<p class="soft">{escape(task.task_id)} · {task.split}</p>{asked}<div class="sides">{sides}</div></details>'
    )


def _side(name: str, output: Any, reason: str | None) -> str:
    why = f'<p class="reason">{_clipped(reason)}</p>' if reason else ""
    return f"<div>{_field(name, 'no output' if output is None else output)}{why}</div>"


def _field(name: str, value: Any) -> str:
    return f'<h4>{name}</h4><div class="text">{_clipped(wording.plain_text(value))}</div>'


def _clipped(text: str) -> str:
    if len(text) <= _MAX_SHOWN:
        return escape(text)
    return f'{escape(text[:_MAX_SHOWN])}<i class="soft"> … {len(text) - _MAX_SHOWN:,} more characters</i>'


def _change(task: TaskOutcome) -> float:
    return (task.final_reward or 0.0) - (task.baseline_reward or 0.0)


def _lineage(result: TrainingResult) -> str:
    """Every version under the one it came from; the one handed back is marked."""
    tree = escape(result.tree()).replace(escape(result.policy.id), f"<b>{escape(result.policy.id)}</b>")
    return f'<h3>Which version came from which</h3><pre class="tree">{tree}</pre>'


def _curves(result: TrainingResult) -> str:
    """How the stages that learn weights learned, by what they told; two points are no curve."""
    drawn = [curve for curve in result.curves if len(curve.values) > 2]
    names = {"reward": "reward of the rollouts it learned from", "loss": "loss"}
    titles = [f"{curve.stage}: {names.get(curve.name, curve.name)}" for curve in drawn]
    figures = [charts.curve(curve.values, title) for curve, title in zip(drawn, titles, strict=True)]
    return f"<h3>Learning</h3>{''.join(figures)}" if figures else ""


def _decision(entry: HistoryEntry, names_stage: bool) -> str:
    stage = f"{escape(entry.stage)}, " if names_stage and entry.stage else ""
    score = f"<b>{wording.number(entry.validation_mean)}</b>" if entry.validation_mean is not None else "<b>–</b>"
    place = f" · {escape(entry.site)}" if entry.site else ""
    idea = f'<p class="idea">{escape(entry.idea)}</p>' if entry.idea else ""
    mark = f'<span class="mark" aria-hidden="true">{charts.MARKS[entry.decision]}</span>'
    return (
        f'<li class="{entry.decision}">{mark}{score}'
        f'<div><p><strong>{entry.decision}</strong> {escape(entry.policy_id)} <span class="soft">from '
        f"{escape(entry.parent_id)} · {stage}round {entry.iteration}{place}</span></p>{idea}"
        f'<p class="soft">{escape(entry.reason)}</p></div></li>'
    )
