"""The request that asks an optimiser model for one better instruction: what stands there, and what happened with it.

One user message in tagged sections. Everything between the tags comes from outside (agents, users, tools), so our own
tags inside it are defused, and long texts lose their middle, visibly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from agentlightning.algorithms.apo.evidence import Run, likeness, tools_of
from agentlightning.algorithms.apo.steps import parting, steps_of
from agentlightning.data.error_tags import error_tags
from agentlightning.data.resource import PromptSite
from agentlightning.data.trajectory import Trajectory

_OUR_TAGS = re.compile(
    r"<(?=/?(?:instruction|other|tools|failures|runs|run|input|steps|parting|output|expected|reason|rejected|focus)\b)",
    re.IGNORECASE,
)
_FIELD_LIMIT, _STEP_LIMIT, _MAX_STEPS = 1200, 400, 24
"""Characters of an input or output, characters of a step, steps of a run."""

_TASK = """\
You improve the instructions of an AI agent. Below is the instruction text the agent works with now, the tools it can \
call, runs of the agent with their outcome, and ideas that were tried before without success.

Write a better text. Work out why the failed runs failed: set each beside passed runs that resemble it, and find what \
the agent did, knew or assumed differently (<parting> shows where a failed run first left the way of a passed one). \
Turn what you find into general rules that will also hold for inputs you have not seen; state them as direct, concrete \
orders to the agent. Keep every part of the current text that the passed runs rely on. Do not \
mention or copy particular inputs, names, numbers or answers from the runs. Do not repeat a \
rejected idea. Keep the language of the current text. Keep every marker written ⟦like this⟧ exactly once: the program \
fills it in. The whole text may have at most {cap} characters; a shorter text that does the same is better."""

_TOOL_TASK = """\
The text to improve is not the agent's own instruction but the description of its tool {tool}: what the agent reads \
to decide when and how to call it. Say when to use it and when not, what each argument must look like and what comes \
back. Its name and its parameters cannot be changed."""

_REPLY = "Reply with one line `Idea: …` and then the complete new text between <instruction> and </instruction>."

FOCUS_ALL = "Cover the causes of all the failed runs with as few rules as possible."
FOCUS_FREQUENT = "Take the one cause behind most of the failures and fix only that, leaving the rest as it is."
FOCUS_RARE = "Take a failure that is rare or hard to explain, and find the one rule that would have prevented it."
FOCUS_FORMAT = "Compare the form of the outputs with what was wanted: wording, format, length, what was left out."
FOCUS_SHORTER = "Make the text shorter: merge or drop what the runs do not support, and keep what the passed runs need."
FOCUS_TOOLS = "Look at the tool calls: say which tool to use when, which call was missing, needless or wrong."


class Reflection(msgspec.Struct, frozen=True, kw_only=True):
    """All that goes into one request."""

    site: PromptSite
    text: str
    """What stands at the site now."""
    cap: int
    """Most characters the new text may have."""
    runs: Sequence[Run]
    rejected: Sequence[str] = ()
    focus: str = FOCUS_ALL
    others: Sequence[tuple[PromptSite, str]] = ()
    """The agents' other instructions, which this proposal leaves alone."""
    show_expected: bool = True


def focuses(text: str, *, has_tools: bool) -> list[str]:
    """The angles worth taking besides FOCUS_ALL, for a text like this; the caller rotates through them."""
    angles = [FOCUS_FREQUENT, FOCUS_RARE, FOCUS_FORMAT]
    if has_tools:
        angles.insert(1, FOCUS_TOOLS)
    return [*angles, FOCUS_SHORTER] if len(text) > 300 else angles


def write_request(reflection: Reflection) -> str:
    """The user message for one proposal."""
    site = reflection.site
    attributes = f'agent="{_attribute(site.agent)}" kind="{site.kind}"'
    sections = [
        _TASK.format(cap=reflection.cap),
        f'<instruction {attributes} max_characters="{reflection.cap}">\n{_current(reflection.text)}\n</instruction>',
    ]
    if site.tool:
        sections.insert(1, _TOOL_TASK.format(tool=_attribute(site.tool)))
    sections += [
        f'<other agent="{_attribute(other.agent)}" kind="{other.kind}">\n{_safe(text, _FIELD_LIMIT)}\n</other>'
        for other, text in reflection.others
    ]
    if tools := tools_of(reflection.runs, site.agent):
        sections.append(_block("tools", map(_tool_line, tools.values())))
    if clusters := list(_clusters(reflection.runs)):
        sections.append(_block("failures", clusters))
    sections.append(_block("runs", _runs(reflection.runs, reflection.show_expected)))
    if reflection.rejected:
        sections.append(_block("rejected", (f"- {_safe(line, _STEP_LIMIT)}" for line in reflection.rejected)))
    sections += [f"<focus>{_safe(reflection.focus, _FIELD_LIMIT)}</focus>", _REPLY]
    return "\n".join(sections)


def write_repair(problems: Iterable[str]) -> str:
    """The follow-up to a reply that cannot be used."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"That text cannot be used:\n{listed}\nMend this and answer again in full. {_REPLY}"


def shorten(text: str, limit: int) -> str:
    """The text, or its two ends around a visible mark that counts what is missing."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    return f"{text[:head]} […{len(text) - limit} characters left out…] {text[-tail:]}"


def _block(tag: str, lines: Iterable[str]) -> str:
    return "\n".join([f"<{tag}>", *lines, f"</{tag}>"])


def _current(text: str) -> str:
    # Only our own delimiter is defused here: other tags may be part of the prompt and must come back unchanged.
    return text.replace("</instruction", "<\\/instruction") if text.strip() else "(there is no instruction yet)"


def _safe(text: str, limit: int) -> str:
    return _OUR_TAGS.sub(r"<\\", shorten(text, limit))


def _attribute(text: str) -> str:
    return _safe(text, 80).replace('"', "'").replace("\n", " ")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _tool_line(schema: dict[str, Any]) -> str:
    parameters = ", ".join((schema.get("parameters") or {}).get("properties") or {})
    return _safe(f"- {schema.get('name', '?')}({parameters}): {schema.get('description') or ''}".strip(), _STEP_LIMIT)


def _clusters(runs: Sequence[Run]) -> Iterator[str]:
    """The kinds of failure among the failed runs, the most frequent first, each with the runs that show it."""
    found: dict[str, list[str]] = {}
    for number, run in enumerate(runs, start=1):
        for tag in error_tags(run.trajectory) if run.is_failed else []:
            found.setdefault(tag.name, []).append(str(number))
    num_failed = sum(run.is_failed for run in runs)
    for name, numbers in sorted(found.items(), key=lambda pair: -len(pair[1])):
        yield f"- {name} in {len(numbers)} of {num_failed} failed runs: {', '.join(numbers)}"


def _runs(runs: Sequence[Run], show_expected: bool) -> Iterator[str]:
    for number, run in enumerate(runs, start=1):
        yield _run(number, run, _parting(run, runs), show_expected)


def _run(number: int, run: Run, parting_lines: Sequence[str], show_expected: bool) -> str:
    t = run.trajectory
    score = "none" if t.reward is None else f"{t.reward:.2f}"
    head = f'<run number="{number}" outcome="{run.outcome}" score="{score}">'
    lines = [head, f"<input>{_safe(_plain(t.input), _FIELD_LIMIT)}</input>"]
    if steps := [_safe(step.line, _STEP_LIMIT) for step in steps_of(t)]:
        lines.append(_block("steps", _without_middle(steps)))
    lines += parting_lines
    lines.append(f"<output>{_safe(_plain(t.output) if t.output is not None else '', _FIELD_LIMIT)}</output>")
    if show_expected and t.expected is not None:
        lines.append(f"<expected>{_safe(_plain(t.expected), _FIELD_LIMIT)}</expected>")
    if reason := _reason(t):
        lines.append(f"<reason>{_safe(reason, _FIELD_LIMIT)}</reason>")
    return "\n".join([*lines, "</run>"])


def _parting(run: Run, runs: Sequence[Run]) -> list[str]:
    """Where a failed run first did something else than the passed run most like it, if it did."""
    passed = [(number, other) for number, other in enumerate(runs, start=1) if not other.is_failed]
    if not run.is_failed or not passed:
        return []
    number, other = max(passed, key=lambda pair: likeness(pair[1].trajectory, run.trajectory))
    found = parting(steps_of(run.trajectory), steps_of(other.trajectory))
    if found is None:
        return []
    here, there = (_safe(line, _STEP_LIMIT) for line in found)
    return [f'<parting from="run {number}">here: {here}\nthere: {there}</parting>']


def _without_middle(lines: list[str]) -> list[str]:
    if len(lines) <= _MAX_STEPS:
        return lines
    half = _MAX_STEPS // 2
    return [*lines[:half], f"[…{len(lines) - 2 * half} steps left out…]", *lines[-half:]]


def _reason(t: Trajectory) -> str:
    error = t.error or ("it took too long" if t.status == "timeout" else "")
    return "; ".join(
        part for part in (f"the run ended with an error: {error}" if error else "", t.reason or "") if part
    )
