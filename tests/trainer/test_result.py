"""The result object: what it says in words, and that it survives as JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.errors import DataError
from agentlightning.trainer import wording
from agentlightning.trainer.result import Cost, HistoryEntry, TaskOutcome, TrainingResult

SITE = PromptSite("support:system", "support", "system", "You are helpful.\nAnswer ⟦name⟧.")
POLICY = Policy().with_prompt(SITE, "You are helpful.\nCheck the order first.\nAnswer ⟦name⟧.")
IMPROVED = TrainingResult(
    policy=POLICY,
    verdict="improved",
    baseline=0.62,
    final=0.78,
    difference=0.16,
    interval=(0.052, 0.268),
    p_value=0.0042,
    num_test_tasks=40,
    cost=Cost(
        calls=1240,
        task_calls=1180,
        optimizer_calls=60,
        input_tokens=900_000,
        output_tokens=80_000,
        usd=0.84,
        seconds=750,
    ),
    history=[
        HistoryEntry(policy_id=POLICY.id, parent_id="original", decision="accepted", reason="better", iteration=1)
    ],
    tasks=[TaskOutcome(task_id="t-1", split="test", input={"q": "hi"}, baseline_reward=0.0, final_reward=1.0)],
    sites=[SITE],
    notes=["2 tasks left out."],
    output_dir="results",
)


def changed(**fields: object) -> TrainingResult:
    return msgspec.structs.replace(IMPROVED, **fields)


def test_the_summary_says_verdict_numbers_cost_place_and_change() -> None:
    assert IMPROVED.summary().splitlines() == [
        "Improved from 0.62 to 0.78.",
        "On 40 tasks the search never saw, the average reward changed by +0.16 (95 % interval +0.05 to +0.27, "
        "p = 0.004). The interval excludes zero.",
        "Cost: 1,240 model calls (1,180 task, 60 optimizer), 900,000 tokens in, 80,000 out, $0.84, 12 min 30 s.",
        "Saved: results/policy.yaml",
        "Note: 2 tasks left out.",
        "--- support:system (original)",
        "+++ support:system (new)",
        " You are helpful.",
        "+Check the order first.",
        " Answer ⟦name⟧.",
    ]


def test_a_summary_never_exceeds_fifteen_lines() -> None:
    long = Policy().with_prompt(SITE, "\n".join(f"Rule {k}" for k in range(90)) + "⟦name⟧")
    lines = changed(policy=long, notes=[f"note {k}" for k in range(9)]).summary().splitlines()
    assert len(lines) == 15
    assert lines[8] == "(5 more notes in result.notes)"
    assert lines[-1].endswith("more lines: print(result.diff())")


@pytest.mark.parametrize(
    ("fields", "headline", "evidence"),
    [
        (
            {"interval": (-0.02, 0.3)},
            "Improvement not shown: 0.62 before, 0.78 after",
            "includes zero, so this may be luck",
        ),
        ({"interval": None, "num_test_tasks": 4}, "Improvement not shown: 0.62 before, 0.78 after", "too few to show"),
        (
            {"interval": None, "num_test_tasks": 0},
            "Improvement not shown: 0.62 before, 0.78 after",
            "No tasks were held out",
        ),
    ],
)
def test_not_shown_is_said_plainly(fields: dict[str, object], headline: str, evidence: str) -> None:
    result = changed(verdict="not shown", **fields)
    assert result.headline == headline
    assert evidence in result.evidence
    assert "improved" not in result.summary().lower()


def test_a_kept_original_shows_by_how_much_the_best_version_missed() -> None:
    result = changed(
        verdict="kept original", policy=Policy(), final=0.62, difference=-0.03, interval=(-0.1, 0.04), p_value=0.4
    )
    assert result.headline == "Kept the original: nothing scored higher than 0.62"
    assert "differed by −0.03 (95 % interval −0.10 to +0.04)" in result.evidence
    assert result.diff() == ""
    assert result.prompts == {}


def test_a_run_without_candidates_says_so() -> None:
    result = TrainingResult(policy=Policy(), verdict="kept original")
    assert "No new version scored higher" in result.summary()


def test_the_diff_names_demos_models_and_sampling() -> None:
    policy = msgspec.structs.replace(
        POLICY.with_demos("support", [Demo("a", "b")]),
        models={"support": "small"},
        sampling={"support": {"temperature": 0}},
    )
    assert changed(policy=policy).diff().splitlines()[-4:] == [
        "",
        "+ support: 1 worked example",
        "+ support: model small",
        "+ support: temperature = 0",
    ]


def test_json_round_trips() -> None:
    assert TrainingResult.from_json(IMPROVED.to_json()) == IMPROVED
    assert IMPROVED.to_dict()["policy"]["prompts"] == POLICY.prompts


@pytest.mark.parametrize("data", [b"{", b'{"verdict": "great"}', b"[]"])
def test_what_is_not_a_result_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="not a training result"):
        TrainingResult.from_json(data)


def test_the_notebook_view_escapes_what_agents_wrote() -> None:
    policy = Policy().with_prompt(SITE, "<script>alert(1)</script>⟦name⟧")
    page = changed(policy=policy, notes=["<b>"])._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "&lt;b&gt;" in page


def test_a_task_without_both_rewards_is_unjudged() -> None:
    task = IMPROVED.tasks[0]
    assert task.outcome == "won"
    assert msgspec.structs.replace(task, final_reward=None).outcome == "unjudged"
    assert msgspec.structs.replace(task, final_reward=0.0).outcome == "same"
    assert msgspec.structs.replace(task, final_reward=-1.0).outcome == "lost"


@given(st.text("ab ⟦⟧\n", max_size=60), st.text("ab ⟦⟧\n", max_size=60))
def test_word_changes_join_to_both_texts(old: str, new: str) -> None:
    changes = wording.word_changes(old, new)
    assert "".join(c.text for c in changes if c.kind != "added") == old
    assert "".join(c.text for c in changes if c.kind != "removed") == new


def test_a_slot_marker_is_never_split_by_a_word_diff() -> None:
    changes = wording.word_changes("Help ⟦customer name⟧.", "Always greet ⟦customer name⟧ kindly.")
    assert any("⟦customer name⟧" in change.text for change in changes)
    assert all(change.text.count("⟦") == change.text.count("⟧") for change in changes)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "+0.00"), (0.123, "+0.12"), (-0.5, "−0.50"), (0.0042, "+0.004"), (-0.00001, "−1e−05"), (12.34, "+12.3")],
)
def test_a_small_difference_is_never_rounded_to_zero(value: float, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_at_a_prompt_a_result_is_one_line() -> None:
    result = TrainingResult(policy=Policy(), verdict="kept original", baseline=0.5, output_dir="out")
    assert repr(result).startswith("<TrainingResult: Kept the original: nothing scored higher than 0.50; 0 calls, out;")
