"""A prompt line by line: where lines come from, what they are worth, and which are tried without."""

from __future__ import annotations

from agentlightning.algorithms.apo.edits import Edit, edits
from agentlightning.algorithms.apo.lines import Line, LineLedger, Pruner, added, without
from agentlightning.algorithms.apo.scoreboard import Comparison
from agentlightning.algorithms.apo.search import Candidate, Turn, Verdict
from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.data.task import Task

SITE = PromptSite(id="s", agent="a", kind="system", template="Answer ⟦name⟧.\nBe kind.")
TURN = Turn(3, [Task("t-1", "hello")], [])


def policy(*lines: str) -> Policy:
    return Policy().with_prompt(SITE, "\n".join([SITE.template, *lines]))


def ledger(*verdicts: Verdict) -> LineLedger:
    known = LineLedger([SITE])
    known.learn(verdicts, TURN)
    return known


def verdict(new: Policy, old: Policy, *differences: float) -> Verdict:
    return Verdict(Candidate(new, old, "an idea"), False, Comparison(differences))


def test_added_lines_are_those_the_other_does_not_have() -> None:
    assert added(policy("x", "y"), policy("y"), SITE) == ["x"]
    assert without("a\n\nb\nc", ["b"]) == "a\n\nc"


def test_a_line_remembers_the_round_and_the_tasks_that_suggested_it() -> None:
    known = ledger(verdict(policy("x"), Policy(), 1.0))
    origin = known.origin(Line("s", "x"))
    assert origin is not None and (origin.round, origin.idea) == (4, "an idea"), "counted from 1, as in the log"
    assert known.suggested_by([Line("s", "x")]) == {"t-1"}
    assert known.origin(Line("s", "Be kind.")) is None


def test_the_record_of_a_candidate_names_its_lines_and_where_they_came_from() -> None:
    known = ledger(verdict(policy("x"), Policy(), 1.0))
    assert known.edits(Candidate(policy("y"), policy("x"), "swap")) == [
        {"kind": "add", "old": [], "new": "y", "site": "s", "from_rounds": []},
        {"kind": "delete", "old": ["x"], "new": None, "site": "s", "from_rounds": [4]},
    ]


def test_an_edit_is_told_by_its_kind() -> None:
    before = "If it is late, apologise.\nIf it is early, rejoice.\nStay calm."
    assert edits(before, f"{before}\nAsk for the number.") == [Edit("add", (), "Ask for the number.")]
    assert edits(before, "If it is late, apologise.\nIf it is early, rejoice.") == [Edit("delete", ("Stay calm.",))]
    reworded = before.replace("Stay calm.", "Always stay calm.")
    assert edits(before, reworded) == [Edit("reword", ("Stay calm.",), "Always stay calm.")]
    merged = edits(before, "If it is late, apologise; if it is early, rejoice.\nStay calm.")
    assert [(edit.kind, len(edit.old)) for edit in merged] == [("merge", 2)]
    assert [edit.kind for edit in edits("a\nb", "b\na")] == ["reorder"]
    assert edits(before, before) == []


def test_other_examples_are_an_edit_too() -> None:
    shown = policy().with_demos("a", [Demo("2+2", "4")])
    assert ledger().edits(Candidate(shown, policy(), "examples")) == [
        {"kind": "swap demos", "agent": "a", "old": [], "new": ["2+2"]}
    ]


def test_a_gain_is_shared_by_the_lines_that_came_and_held_against_those_that_went() -> None:
    known = ledger(verdict(policy("x", "y"), Policy(), 1.0, 1.0), verdict(policy("y"), policy("x", "y"), 1.0))
    assert known.effect(Line("s", "y")) > 0.0
    assert known.effect(Line("s", "x")) < known.effect(Line("s", "y"))


def test_lines_of_the_original_and_lines_with_slots_are_never_dropped() -> None:
    known = ledger()
    found = known.removable(Policy().with_prompt(SITE, "Be kind.\nGreet ⟦name⟧ first.\nx"))
    assert found == [Line("s", "x")]


def test_half_the_lines_are_tried_first_then_fewer_then_each_alone_once() -> None:
    pruner, current = Pruner([SITE], ledger()), policy("a", "b", "c", "d")
    tried: list[str] = []
    while group := pruner.next_group(current):
        tried.append("".join(line.text for line in group))
        is_dropped = tried[-1] == "b"
        current = pruner.drop(current, group) if is_dropped else current
        pruner.learn(group, was_dropped=is_dropped)
    assert tried == ["ab", "a", "b", "cd", "c", "d"]
    assert current == policy("a", "c", "d")
