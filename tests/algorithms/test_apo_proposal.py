"""Which replies of an optimiser model are taken, and why the others are not."""

from __future__ import annotations

from typing import Any

import pytest

from agentlightning.algorithms.apo.proposal import Rules, read_proposal
from agentlightning.data.call import Reply
from agentlightning.data.resource import PromptSite
from agentlightning.data.task import Task, to_tasks


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(message={"role": "assistant", "content": text}, finish_reason=finish_reason)


def problems(
    text: str, *, template: str = "Answer the question.", tasks: list[Task] | None = None, cap: int = 200
) -> str:
    site = PromptSite(id="s", agent="a", kind="system", template=template)
    proposal = read_proposal(reply(f"Idea: x\n<instruction>\n{text}\n</instruction>"))
    return "; ".join(Rules(tasks or []).problems(proposal, site, template, 200))


def answers(*expected: Any) -> list[Task]:
    return to_tasks([{"input": f"question {i}", "expected": value} for i, value in enumerate(expected)])


def test_a_reply_in_form_is_read() -> None:
    proposal = read_proposal(reply("Thinking.\n**Idea:** Be brief.\n<instruction>\nAnswer briefly.\n</instruction>"))
    assert (proposal.idea, proposal.text, proposal.problems) == ("Be brief.", "Answer briefly.", ())


def test_the_text_stands_in_for_a_missing_idea() -> None:
    assert read_proposal(reply("<instruction>Answer briefly.\nOr not.</instruction>")).idea == "Answer briefly."


@pytest.mark.parametrize(
    "text", ["no tags", "<instruction>half", "<instruction>a</instruction><instruction>b</instruction>"]
)
def test_anything_but_one_pair_of_tags_is_a_problem(text: str) -> None:
    assert "expected one of each" in read_proposal(reply(text)).problems[0]


def test_a_cut_off_reply_is_a_problem_even_with_its_tags() -> None:
    assert "cut off" in read_proposal(reply("<instruction>a</instruction>", "length")).problems[0]


def test_a_closing_tag_that_was_defused_comes_back_as_it_was() -> None:
    proposal = read_proposal(reply("Idea: x\n<instruction>Write <\\/instruction> last.</instruction>"))
    assert proposal.text == "Write </instruction> last."


def test_a_better_text_has_no_problems() -> None:
    assert problems("Answer the question in one word.") == ""


def test_a_lost_slot_is_a_problem() -> None:
    assert "⟦city⟧ appears 0 times" in problems("Answer.", template="Answer about ⟦city⟧.")


def test_a_text_over_the_cap_is_a_problem() -> None:
    assert "over the cap of 200" in problems("Answer. " * 40)


def test_an_empty_and_an_unchanged_text_are_problems() -> None:
    assert "empty" in problems("")
    assert "the new text is empty" in problems("", template="")
    assert "same as the current" in problems("Answer the question.")


def test_a_change_of_language_is_a_problem() -> None:
    assert "another language" in problems("请用一句话回答问题。")
    assert "another language" in problems("Answer in one sentence.", template="请回答用户的问题。")
    assert problems("请用一句话回答,可提到 Python。", template="请回答用户的问题。") == ""
    assert problems("请用一句话回答问题。", template="") == ""


def test_an_answer_of_a_task_in_the_text_is_a_problem() -> None:
    assert "expected answer" in problems("Say the Treaty of  Utrecht.", tasks=answers("the treaty of Utrecht"))
    assert "expected answer" in problems("Say 1234567890123.", tasks=answers({"number": ["1234567890123"]}))


def test_class_labels_and_short_answers_may_be_named() -> None:
    assert (
        problems("Answer billing_dispute or returns.", tasks=answers("billing_dispute", "billing_dispute", "returns"))
        == ""
    )
    assert problems("Answer 42.", tasks=answers("42")) == ""


def test_an_answer_the_current_text_already_names_may_stay() -> None:
    assert (
        problems("Say technical_support.", template="Or technical_support.", tasks=answers("technical_support")) == ""
    )
