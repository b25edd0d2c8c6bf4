"""Judging an answer from its text alone: language, stated limits, code where code is asked, subject, no filler."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

from agentlightning.demo.model.language import is_chinese, sentences, words
from agentlightning.demo.model.request import Answer
from agentlightning.demo.model.sense import is_small, stems

_ONE_SENTENCE = re.compile(r"\b(?:one|a single) sentence\b|一句话", re.IGNORECASE)
_WORD_LIMIT = re.compile(r"\b(?:in|at most|under|within|no more than) (\d+) words\b", re.IGNORECASE)
_CODE = re.compile(r"\b(?:code|function|implement\w*|script|snippet)\b|代码|函数|实现", re.IGNORECASE)
_HAS_CODE = re.compile(r"```|\bdef \w+\(|\bfunction\b.*\{|=>|\breturn\b.*[+\-*/;]")
_FILLER = re.compile(
    r"\b(?:great question|good question|as an ai|i'?m not sure|i think|maybe|perhaps|it depends|hope this helps)\b"
    r"|好问题|很好的问题|我不确定|也许|希望.{0,6}帮助",
    re.IGNORECASE,
)
_CHINESE_PAIR = re.compile(r"(?=([\u3400-\u9fff]{2}))")
MAX_WORDS = 120


def judge(text: str) -> Answer:
    """`{"score": 0…1, "reason": "…"}`: the share of the checks that apply and are met."""
    score, reason = weigh(_last(text, "input"), _last(text, "output"), _last(text, "expected"))
    return Answer(json.dumps({"score": round(score, 2), "reason": reason}, ensure_ascii=False))


def weigh(asked: str, answered: str, expected: str = "") -> tuple[float, str]:
    """(score, reason) of an answer; an expected answer outweighs every other check."""
    if not answered.strip():
        return 0.0, "the output is empty"
    if expected.strip():
        return _against(expected, answered)
    checks = list(_checks(asked, answered))
    failed = [complaint for is_met, complaint in checks if not is_met]
    score = 1 - len(failed) / len(checks)
    return score, "; ".join(failed) or "it does what was asked"


def _against(expected: str, answered: str) -> tuple[float, str]:
    wanted, given = stems(expected) or (expected.strip(),), stems(answered) or (answered.strip(),)
    if wanted == given:
        return 1.0, "it matches the expected answer"
    if set(wanted) <= set(given):
        return 0.6, f"it contains the expected answer {expected.strip()!r}, with more around it"
    return 0.0, f"expected {expected.strip()!r}, got {answered.strip()[:80]!r}"


def _checks(asked: str, answered: str) -> Iterator[tuple[bool, str]]:
    """(met, what to say when not), for each check that applies to this question."""
    prose = re.sub(r"```.*?```", "", answered, flags=re.DOTALL)
    yield is_chinese(asked) == is_chinese(prose), "it does not answer in the language of the question"
    yield not _FILLER.search(prose), "it opens or closes with filler or hedging instead of a direct answer"
    yield _shares_subject(asked, answered), "it does not stay on the topic of the question"
    yield _length(prose) <= MAX_WORDS, "it is longer than it needs to be"
    if _ONE_SENTENCE.search(asked):
        yield len(sentences(prose)) == 1, "one sentence was asked for, and it is not one sentence"
    if limit := _WORD_LIMIT.search(asked):
        yield _length(prose) <= int(limit.group(1)), f"it is longer than the {limit.group(1)} words asked for"
    if _CODE.search(asked):
        yield bool(_HAS_CODE.search(answered)), "code was asked for, and there is no code example"


def _shares_subject(asked: str, answered: str) -> bool:
    own = {word for word in stems(asked) if not is_small(word)} | set(_CHINESE_PAIR.findall(asked))
    other = set(stems(answered)) | set(_CHINESE_PAIR.findall(answered))
    return not own or bool(own & other)


def _length(text: str) -> int:
    return len(words(text)) if not is_chinese(text) else len(re.findall(r"[\u3400-\u9fff]", text)) // 2


def _last(text: str, name: str) -> str:
    found = re.findall(rf"<{name}(?:\s[^>]*)?>(.*?)</{name}>", text, re.DOTALL)
    return html.unescape(found[-1]).strip() if found else ""
