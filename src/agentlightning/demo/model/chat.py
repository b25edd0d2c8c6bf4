"""Answering anything else, simply: a few facts it knows, in a form that depends on what the instructions ask for.

Without advice it behaves like a careless assistant: it chats, runs on, and sometimes switches to English.
"""

from __future__ import annotations

import re

import msgspec

from agentlightning.demo.model.language import chance, is_chinese, sentences, words
from agentlightning.demo.model.request import Answer, Request
from agentlightning.demo.model.sense import is_small, stems

_ASKS_FOR_ONE = re.compile(r"\b(?:one|a single) sentence\b|一句话", re.IGNORECASE)
_WISHES = {
    "language": r"\b(?:same|user'?s|question'?s|their) language\b|\blanguage of\b|\bin chinese\b|用户的语言|中文",
    "brief": r"\b(?:concise\w*|brief\w*|short)\b|简洁|简短",
    "form": r"\bone sentence\b|\b(?:form|format|length|limits?|constraints?)\b|一句话|要求",
    "example": r"\bexamples?\b|\bcode\b|示例|代码",
    "direct": r"\b(?:preamble|filler|hedg\w*|directly|start with the answer)\b|直接",
}


class _Topic(msgspec.Struct, frozen=True):
    pattern: str
    chinese: tuple[str, ...]
    english: tuple[str, ...]
    code: str = ""


_TOPICS = (
    _Topic(
        r"强化学习|reinforcement learning",
        (
            "强化学习是让智能体通过与环境交互、根据奖励学会行动的方法。",
            "它不需要标注好的答案。",
            "常见的例子是下棋和机器人控制。",
        ),
        (
            "Reinforcement learning trains an agent to act by rewarding what works in its environment.",
            "It needs no labelled answers.",
            "Games and robots are common examples.",
        ),
    ),
    _Topic(
        r"加法|(?:add|sum)\w*.*function|function.*(?:add|sum)",
        ("用 def 定义一个 Python 加法函数，返回两个参数的和即可。", "函数可以接收任意数字。", "调用时传入两个值。"),
        (
            "Define a Python function with def and return the sum of its two arguments.",
            "It takes any numbers.",
            "Call it with two values.",
        ),
        "```python\ndef add(a, b):\n    return a + b\n```",
    ),
    _Topic(
        r"agent lightning",
        (
            "Agent Lightning 是微软的开源项目，介绍了如何不改代码就优化已有的智能体。",
            "它收集运行轨迹。",
            "它用奖励改进提示词或模型。",
        ),
        (
            "Agent Lightning is an open-source project from Microsoft that improves agents without code changes.",
            "It collects what agents did.",
            "It uses rewards to improve prompts or models.",
        ),
    ),
)


def chat(request: Request) -> Answer:
    """A plausible answer; which of the instructions' wishes it heeds decides how good it is."""
    asked = request.case
    if not asked.strip():
        return Answer("How can I help?")
    wishes = {name for name, pattern in _WISHES.items() if re.search(pattern, request.instructions, re.IGNORECASE)}
    chinese = is_chinese(asked) and ("language" in wishes or chance("language", asked) < 0.6)
    topic = _topic(asked)
    body = list(topic.chinese if chinese else topic.english)
    wants_one = _ASKS_FOR_ONE.search(asked) and ("form" in wishes or chance("one", asked) < 0.3)
    if wants_one:
        body = body[:1]
    elif "brief" in wishes:
        body = body[:2]
    if not wishes & {"direct", "brief"} and chance("preamble", asked) < 0.7:
        body.insert(0, "这是一个很好的问题！" if chinese else "That is a great question!")
    text = ("" if chinese else " ").join(body)
    shows_code = topic.code and ("example" in wishes or chance("code", asked) < 0.4)
    return Answer(f"{text}\n\n{topic.code}" if shows_code else text)


def _topic(asked: str) -> _Topic:
    known = next((topic for topic in _TOPICS if re.search(topic.pattern, asked, re.IGNORECASE | re.DOTALL)), None)
    return known or _unknown(asked)


def _unknown(asked: str) -> _Topic:
    """Says back what the question is about: all an honest small model can do."""
    telling = [word for word in words(asked) if not all(map(is_small, stems(word) or ("",)))]
    subject = " ".join(telling[:4]) or sentences(asked)[0][:30]
    return _Topic(
        "",
        (f"关于{subject}，我只知道大概。", "可以先查阅可靠的资料。", "再结合实际情况判断。"),
        (
            f"I only know the outlines of {subject}.",
            "A good source will say more.",
            "Check it against your own case.",
        ),
    )
