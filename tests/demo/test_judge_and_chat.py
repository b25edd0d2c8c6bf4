"""As a judge the model weighs the text it is shown; as a plain assistant its answers follow the instructions."""

from __future__ import annotations

import json

import pytest

from agentlightning.demo.model.judge import weigh
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Request

ONE_SENTENCE = "什么是强化学习?用一句话解释"
ADD = "如何用Python实现简单的加法函数?"
PROJECT = "介绍下微软的Agent Lightning项目"
ADVICE = "Answer in the user's language, be concise, keep to the form asked for, and include an example in code."


def verdict(asked: str, answered: str, expected: str = "") -> dict[str, object]:
    parts = f"<rubric>Is it good?</rubric><input>{asked}</input><output>{answered}</output>"
    parts += f"<expected>{expected}</expected>" if expected else ""
    system = "Grade what stands in <input> and <output> by <rubric>."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": parts}]
    return json.loads(answer(Request(messages)).text or "")


def reply(question: str, system: str = "") -> str:
    messages = [{"role": "system", "content": system}] if system else []
    return answer(Request([*messages, {"role": "user", "content": question}])).text or ""


def test_a_good_answer_beats_a_worse_one_and_the_reason_names_the_fault() -> None:
    good = verdict(ONE_SENTENCE, "强化学习是根据奖励学会行动的方法。")
    long = verdict(ONE_SENTENCE, "强化学习是一种方法。它根据奖励学习。它很有用。")
    english = verdict(ONE_SENTENCE, "Reinforcement learning learns from rewards.")
    assert good["score"] == 1.0 and "reason" in good
    assert "sentence" in str(long["reason"]) and "language" in str(english["reason"])
    assert float(str(long["score"])) < 1 and float(str(english["score"])) < 1


@pytest.mark.parametrize(
    ("asked", "answered", "complaint"),
    [
        ("Write a function that adds.", "You add the numbers with a function.", "code"),
        ("What is a fjord?", "", "empty"),
        ("What is a fjord?", "Great question! A fjord is a drowned valley.", "filler"),
        ("What is a fjord?", "Bananas are yellow.", "topic"),
        ("What is a fjord, in 5 words?", "A fjord is a deep and narrow inlet of the sea.", "words"),
        ("What is a fjord?", "A fjord. " * 80, "longer"),
    ],
)
def test_each_fault_is_seen(asked: str, answered: str, complaint: str) -> None:
    score, reason = weigh(asked, answered)
    assert score < 1 and complaint in reason


def test_an_expected_answer_decides() -> None:
    assert verdict("Which?", "Shipping.", "shipping")["score"] == 1.0
    assert verdict("Which?", "I think shipping.", "shipping")["score"] == 0.6
    assert verdict("Which?", "billing", "shipping")["score"] == 0.0


def test_the_seed_questions_get_better_answers_under_better_instructions() -> None:
    questions = [ONE_SENTENCE, ADD, PROJECT]
    plain = [weigh(question, reply(question))[0] for question in questions]
    advised = [weigh(question, reply(question, ADVICE))[0] for question in questions]
    assert sum(advised) > sum(plain)
    assert min(advised) == 1.0


def test_instructions_shape_the_answer() -> None:
    assert "```python" in reply(ADD, ADVICE)
    assert len(reply(PROJECT, ADVICE)) < len(reply(PROJECT, "Answer in the user's language."))
    assert "fjord" in reply("What is a fjord?")


def test_a_worked_example_is_imitated() -> None:
    system = {"role": "system", "content": "Choose a category: red, green or blue."}
    shown = [{"role": "user", "content": "The zither hums."}, {"role": "assistant", "content": "blue"}]
    asked = {"role": "user", "content": "Is the zither humming?"}
    assert answer(Request([system, *shown, asked])).text == "blue"


def test_instructions_above_the_case_in_one_user_message_are_followed() -> None:
    text = "Choose a category: red, green or blue. Answer with the category only. Zithers are blue.\n\nText: {}"
    assert reply(text.format("My zither hums.")) == "blue"
    assert answer(Request([{"role": "user", "content": text.format("Nothing.")}])).text in ("red", "green", "blue")


def test_temperature_makes_rules_slip_and_the_seed_decides_when() -> None:
    system = "Choose a category: red, green or blue. Answer with the category only. Zithers are blue."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "My zither hums."}]
    hot = [answer(Request(messages, temperature=1.0, seed=seed)).text for seed in range(150)]
    assert 1 <= sum(text != "blue" for text in hot) <= 30
    assert hot == [answer(Request(messages, temperature=1.0, seed=seed)).text for seed in range(150)]
    assert {answer(Request(messages, seed=seed)).text for seed in range(50)} == {"blue"}
