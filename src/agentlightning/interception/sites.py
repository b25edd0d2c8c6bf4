"""Where instruction text enters an agent's calls, read from calls it made: no change to its code, no annotations.

Texts at the same place (agent; system message, first user message or a tool's description) are grouped by the
instructions they share, aligned into a template, and the template is checked on tasks it was not learned from. What
cannot be used is reported with the reason.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

from agentlightning.data import template as templates
from agentlightning.data.call import Call, message_text
from agentlightning.data.resource import (
    MESSAGE_KINDS,
    PromptSite,
    SiteKind,
    Slot,
    editable_text,
    instruction_index,
    tool_description,
    tool_name,
)
from agentlightning.interception.alignment import (
    Tokens,
    coarser,
    constant_runs,
    learn,
    num_constant_words,
    tokenise,
)
from agentlightning.interception.grouping import Prompt, Text, group_texts
from agentlightning.interception.slots import Values, describe_slots, find_spans, input_values

MIN_COVERAGE = 0.95
"""Share of calls that a template must match to be used."""

_NUM_FOLDS, _MIN_TASKS_FOR_FOLDS = 4, 8
_MAX_TASKS_READ = 3


class ObservedCall(msgspec.Struct, frozen=True):
    """One model call of a rollout, and the task it was made for."""

    task_id: str
    task_input: str | dict[str, Any]
    call: Call
    """As the agent made it, before any steering."""
    tool_results: list[str] = []
    """Texts of tool messages and tool results seen earlier in that rollout."""


class SiteReport(msgspec.Struct, frozen=True):
    """What was found. A site that cannot be used stands beside the reason, in words for the agent's author."""

    sites: list[PromptSite]
    unusable: list[tuple[PromptSite, str]]


def discover_sites(
    calls: Sequence[ObservedCall], *, agents: Sequence[str] | None = None, min_coverage: float = MIN_COVERAGE
) -> SiteReport:
    """The prompt sites of the agents (default: all seen), the same whatever the order of the calls.

    A site is usable when its template, learned on some of the tasks, matches at least `min_coverage` of the calls on
    the others. An agent without a usable site that was given no system message gets one empty site, where such a
    message may be inserted. Sites come by agent, system before prefix before tools, the most frequent first.
    """
    by_agent: dict[str, list[ObservedCall]] = defaultdict(list)
    for observed in calls:
        by_agent[observed.call.agent].append(observed)
    report = SiteReport([], [])
    for agent in sorted(by_agent) if agents is None else dict.fromkeys(agents):
        judged = [each for kind in MESSAGE_KINDS for each in _judged_sites(agent, kind, by_agent[agent], min_coverage)]
        if not any(reason is None or site.kind == "system" for site, reason in judged):
            judged.append(_empty_site(agent, by_agent[agent], min_coverage))
        judged += _judged_tools(agent, by_agent[agent], min_coverage)
        report.sites.extend(site for site, reason in judged if reason is None)
        report.unusable.extend((site, reason) for site, reason in judged if reason is not None)
    return report


def _judged_sites(
    agent: str, kind: SiteKind, calls: Sequence[ObservedCall], min_coverage: float
) -> list[tuple[PromptSite, str | None]]:
    place = PromptSite(f"{agent}:{kind}", agent, kind, "")
    return _judged_texts(place, _texts_at(kind, calls), min_coverage)


def _judged_tools(
    agent: str, calls: Sequence[ObservedCall], min_coverage: float
) -> list[tuple[PromptSite, str | None]]:
    """A site for every tool that is described, by name."""
    shown: dict[str, list[tuple[ObservedCall, str]]] = defaultdict(list)
    for observed in calls:
        for tool in observed.call.tools:
            if (name := tool_name(tool)) and tool_description(tool).strip():
                shown[name].append((observed, tool_description(tool)))
    judged: list[tuple[PromptSite, str | None]] = []
    for name in sorted(shown):
        place = PromptSite(f"{agent}:tool:{name}", agent, "tool", "", tool=name)
        judged += _judged_texts(place, _distinct(shown[name]), min_coverage)
    return judged


def _judged_texts(place: PromptSite, texts: Sequence[Text], min_coverage: float) -> list[tuple[PromptSite, str | None]]:
    prompts = [_settled(prompt, min_coverage) for prompt in group_texts(texts) if _is_instruction(prompt.template)]
    described = [(prompt, *_described(prompt)) for prompt in prompts]
    judged: list[tuple[PromptSite, str | None]] = []
    for prompt, template, slots in sorted(described, key=lambda row: (-row[0].num_calls, row[1])):
        coverage, missed = _coverage(prompt)
        known = {"template": template, "slots": slots, "coverage": coverage, "num_observed": prompt.num_calls}
        site = msgspec.structs.replace(place, id=_numbered(place.id, len(judged)), **known)
        judged.append((site, _why_unusable(coverage, missed, min_coverage)))
    return judged


def _settled(prompt: Prompt, min_coverage: float) -> Prompt:
    """The prompt, with its template made coarser where that makes it usable: a few words less to edit, no call lost."""
    coverage, _ = _coverage(prompt)
    if coverage is None or coverage >= min_coverage:
        return prompt
    rough = Prompt(prompt.texts, coarser(prompt.template), is_coarse=True)
    share, _ = _coverage(rough)
    return rough if share is not None and share >= min_coverage and _is_instruction(rough.template) else prompt


def _numbered(name: str, index: int) -> str:
    return name + (f"-{index + 1}" if index else "")


def _why_unusable(coverage: float | None, missed: Sequence[str], min_coverage: float) -> str | None:
    if coverage is None:
        return "Only one task shows it, so nothing tells its fixed text from that task's own. Run two or more tasks."
    if coverage >= min_coverage:
        return None
    return (
        f"Its template matches {coverage:.1%} of the calls on tasks it was not learned from; {min_coverage:.0%} are "
        f"needed. One it does not match: {missed[0][:160]!r}"
    )


def _empty_site(agent: str, calls: Sequence[ObservedCall], min_coverage: float) -> tuple[PromptSite, str | None]:
    site = PromptSite(f"{agent}:system", agent, "system", "")
    if not calls:
        return site, f"No model call of an agent named {agent!r} was seen."
    free = sum(instruction_index(observed.call.messages, "system") is None for observed in calls)
    coverage = free / len(calls)
    site = msgspec.structs.replace(site, coverage=coverage, num_observed=len(calls))
    if coverage >= min_coverage:
        return site, None
    return site, (
        f"Only {coverage:.1%} of its calls have no system message ({min_coverage:.0%} are needed to insert one), and "
        "the system messages there are have no fixed instruction text of two words or more."
    )


def _texts_at(kind: SiteKind, calls: Sequence[ObservedCall]) -> list[Text]:
    """The distinct texts at a place with their tokens.

    A first user message is read where a conversation begins; later calls only repeat it (or a summary of it).
    """
    if kind == "prefix":
        calls = [observed for observed in calls if not _is_continued(observed.call)] or calls
    found: list[tuple[ObservedCall, str]] = []
    for observed in calls:
        index = instruction_index(observed.call.messages, kind)
        content = editable_text(observed.call.messages[index]) if index is not None else None
        if content is not None and content.strip():
            found.append((observed, content))
    return _distinct(found)


def _distinct(found: Sequence[tuple[ObservedCall, str]]) -> list[Text]:
    texts: dict[str, Text] = {}
    for observed, content in found:
        text = texts.setdefault(content, Text(content))
        text.num_calls += 1
        text.tasks[observed.task_id] = _carried(observed, text.tasks.get(observed.task_id))
    _tokenise_all(list(texts.values()))
    return sorted(texts.values(), key=lambda text: text.text)


def _is_continued(call: Call) -> bool:
    return any(message.get("role") == "assistant" for message in call.messages)


def _carried(observed: ObservedCall, before: Values | None) -> Values:
    answers = [message_text(message) for message in observed.call.messages if message.get("role") == "tool"]
    results = {*observed.tool_results, *answers, *(before.tool_results if before else ())}
    return Values(before.inputs if before else input_values(observed.task_input), sorted(results))


def _tokenise_all(texts: Sequence[Text]) -> None:
    per_task = {task: {text for _, text in values.inputs} for each in texts for task, values in each.tasks.items()}
    in_every_task = frozenset(set.intersection(*per_task.values())) if per_task else frozenset[str]()
    for each in texts:
        tasks = [each.tasks[task] for task in sorted(each.tasks)]
        each.tokens = tokenise(each.text, find_spans(each.text, tasks, in_every_task))


def _is_instruction(template: Tokens) -> bool:
    has_letters = any(character.isalpha() for run in constant_runs(template) for character in run)
    return has_letters and num_constant_words(template) >= 2


def _described(prompt: Prompt) -> tuple[str, list[Slot]]:
    constants = constant_runs(prompt.template)
    rows = [
        ([text.text[start:end] for start, end in spans], text.tasks[task])
        for text in sorted(prompt.texts, key=lambda text: (-text.num_calls, text.text))
        if (spans := templates.fit(constants, text.text)) is not None
        for task in sorted(text.tasks)[:_MAX_TASKS_READ]
    ]
    slots = describe_slots(rows)
    names = [templates.marker(slot.name) for slot in slots]
    return constants[0] + "".join(chain(*zip(names, constants[1:], strict=True))), slots


def _coverage(prompt: Prompt) -> tuple[float | None, list[str]]:
    """Mean share of calls matched by a template learned without their tasks, and the texts that were not matched.

    The tasks are split in four by a hash of their ids, and each quarter is tried against the template of the others.
    Below eight tasks each is left out once instead.
    """
    tasks = sorted(prompt.tasks, key=lambda task: hashlib.sha256(task.encode("utf-8", "surrogatepass")).digest())
    if len(tasks) < 2:
        return None, []
    num_folds = _NUM_FOLDS if len(tasks) >= _MIN_TASKS_FOR_FOLDS else len(tasks)
    shares: list[float] = []
    missed: list[str] = []
    for fold in range(num_folds):
        held_out = set(tasks[fold::num_folds])
        learned = learn([text.tokens for text in prompt.texts if text.tasks.keys() - held_out])
        template = _anonymous(coarser(learned) if prompt.is_coarse else learned)
        shown = {text.text: len(text.tasks.keys() & held_out) for text in prompt.texts}
        fits = {text: templates.match(template, text) is not None for text, count in shown.items() if count}
        missed += [text for text, is_fit in fits.items() if not is_fit]
        shares.append(sum(shown[text] for text, is_fit in fits.items() if is_fit) / sum(shown.values()))
    return sum(shares) / num_folds, missed


def _anonymous(template: Tokens) -> str:
    first, *rest = constant_runs(template)
    return first + "".join(f"{templates.marker(str(number))}{constant}" for number, constant in enumerate(rest))
