"""The built-in optimiser: proposes advice it knows, not what was rejected, over the wire like any model."""

from __future__ import annotations

from collections import Counter

import httpx

from agentlightning.demo.model.request import Request
from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.sql.lines import HARMFUL, HELPFUL, LINES, named
from agentlightning.demo.sql.optimizer import answer

SYSTEM = "You answer questions about a database."
GAVE_UP = "it gave up after an error (no such column: price)"


def request(text: str = SYSTEM, *, rejected: tuple[str, ...] = (), seed: int = 0) -> Request:
    listed = "\n".join(f"- {idea} (mean -0.10)" for idea in rejected)
    run = f'<run outcome="failed" score="0.00">\n<input>?</input>\n<reason>{GAVE_UP}</reason>\n</run>'
    asked = (
        f'<instruction agent="answer" kind="system" max_characters="2000">\n{text}\n</instruction>\n'
        f"<runs>\n{run}\n</runs>\n<rejected>\n{listed}\n</rejected>\nReply with one line."
    )
    return Request([{"role": "user", "content": asked}], seed=seed)


def proposed(asked: Request) -> list[str]:
    """The names of the advice in the text it proposes."""
    said = answer(asked).text or ""
    return named(said.partition("<instruction>")[2])


def test_it_adds_one_line_and_keeps_the_rest():
    said = answer(request()).text or ""
    text = said.partition("<instruction>\n")[2].partition("\n</instruction>")[0]
    first, line = text.splitlines()
    assert first == SYSTEM and len(named(line)) == 1
    assert said.startswith(f"Idea: {line}")


def test_it_proposes_bad_advice_too_and_what_the_reasons_hint_at_more_often():
    counted = Counter(name for seed in range(400) for name in proposed(request(seed=seed)))
    assert counted.keys() == LINES.keys()
    assert sum(counted[name] for name in HELPFUL) > sum(counted[name] for name in HARMFUL) > 30
    assert {name for name, _ in counted.most_common(3)} == {"schema first", "try again", "answer right away"}


def test_it_does_not_repeat_what_stands_there_or_was_rejected():
    present = f"{SYSTEM}\n{LINES['try again'][1]}"
    for seed in range(50):
        names = proposed(request(present, rejected=(LINES["think"][2],), seed=seed))
        assert names[0] == "try again" and len(set(names)) == 2 and "think" not in names


def test_it_has_nothing_to_add_when_everything_was_said():
    everything = "\n".join([SYSTEM, *(wordings[0] for wordings in LINES.values())])
    assert proposed(request(everything)) == list(LINES)


def test_it_is_served_as_any_other_model():
    with SimulatedServer(speaker=answer) as server:
        body = {"model": "m", "messages": request().messages}
        given = httpx.post(f"{server.base_url}/chat/completions", json=body).json()
    assert "<instruction>" in given["choices"][0]["message"]["content"]
