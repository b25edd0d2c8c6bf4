"""A request to improve instructions, taken apart: the texts, what agents did with them, what was tried before.

Sections may be missing and attributes may vary; whatever is there is used.
"""

from __future__ import annotations

import html
import re

import msgspec

from agentlightning.demo.model.rules import Situation

_SITE = re.compile(r"<instruction(\s[^>]*)?>\n?(.*?)\n?</instruction>", re.DOTALL)
_NOTHING = re.compile(r"^\s*\((?:there is )?no instructions?\b[^)]*\)\s*$|^\s+$", re.IGNORECASE)
_RUN = re.compile(r"<run(\s[^>]*)?>(.*?)</run>", re.DOTALL)
_ATTRIBUTE = re.compile(r"([\w-]+)\s*=\s*[\"']([^\"']*)[\"']")
_TOOL = re.compile(r"^\s*[-*•]?\s*([A-Za-z]\w+)\s*(?:\(|:|$)", re.MULTILINE)
_TOOL_STEP = re.compile(r"^\s*tool\s+(\w+).*$", re.MULTILINE)
_IDEA = re.compile(r"^[-*•]\s+", re.MULTILINE)
_EXPECTED_IN_REASON = re.compile(r"expected(?: was| is|:)?\s*[\"'“`]?([\w-]+)", re.IGNORECASE)


class Site(msgspec.Struct, frozen=True):
    """One instruction text and the tag it must be given back in."""

    attributes: dict[str, str]
    text: str


class Run(msgspec.Struct, frozen=True):
    """One run of the agent, as far as it was shown."""

    is_passed: bool
    text: str
    situation: Situation
    output: str
    expected: str
    """Empty when nothing says what was right."""
    reason: str
    used_tool: bool

    @property
    def answered(self) -> str:
        """The output as a label would be written."""
        return self.output.strip().strip(".\"'`").lower()

    @property
    def is_wrong_form(self) -> bool:
        """The right answer is in the output, with other words around it."""
        return not self.is_passed and self.answered != self.expected and _has_word(self.expected, self.output)


class Reflection(msgspec.Struct, frozen=True):
    """Everything an optimiser knows; there is no other source."""

    sites: list[Site]
    tools: list[str]
    runs: list[Run]
    rejected: list[str]
    focus: str
    max_characters: int | None


def parse_reflection(text: str) -> Reflection | None:
    """The request's parts; None when it is not a request to improve instructions."""
    runs = re.search(r"<runs?[\s>]", text)
    head = text[: runs.start()] if runs else text
    found = [
        Site(dict(_ATTRIBUTE.findall(attributes)), _NOTHING.sub("", body)) for attributes, body in _SITE.findall(head)
    ]
    sites = [site for site in found if site.attributes] or found[:1]
    if not sites or not (runs or sites[0].attributes):
        return None
    caps = [
        int(site.attributes["max_characters"]) for site in sites if site.attributes.get("max_characters", "").isdigit()
    ]
    return Reflection(
        sites=sites,
        tools=_TOOL.findall(_section(text, "tools")),
        runs=[_run(attributes, body) for attributes, body in _RUN.findall(text)],
        rejected=[idea.strip() for idea in _IDEA.split(_section(text, "rejected")) if idea.strip()],
        focus=_section(text, "focus"),
        max_characters=min(caps) if caps else None,
    )


def _run(attribute_text: str, body: str) -> Run:
    attributes = dict(_ATTRIBUTE.findall(attribute_text))
    given, steps, reason = _section(body, "input"), _section(body, "steps"), _section(body, "reason")
    is_passed = attributes.get("outcome", "") == "passed"
    if "outcome" not in attributes:
        is_passed = float(attributes.get("score", "0") or 0) >= 0.5
    output = _section(body, "output")
    told = _EXPECTED_IN_REASON.search(reason)
    expected = _section(body, "expected") or (told.group(1) if told else "")
    if is_passed and not expected:
        expected = output
    results = [step.group() for step in _TOOL_STEP.finditer(steps)]
    return Run(
        is_passed=is_passed,
        text=given,
        situation=Situation.of(given, results),
        output=output,
        expected=expected.strip().strip(".\"'`").lower(),
        reason=reason,
        used_tool=bool(results) or "tool " in steps,
    )


def _section(text: str, name: str) -> str:
    found = re.search(rf"<{name}(?:\s[^>]*)?>(.*?)</{name}>", text, re.DOTALL)
    return html.unescape(found.group(1)).strip() if found else ""


def _has_word(word: str, text: str) -> bool:
    return bool(word) and re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None
