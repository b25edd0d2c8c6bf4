"""The report: honest words, complete numbers, and nothing an agent wrote can act in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.trainer.report import render, write_report
from agentlightning.trainer.report.charts import progress, rounds_of
from agentlightning.trainer.result import Cost, Curve, HistoryEntry, TaskOutcome, TrainingResult, Winner

VOID = {"meta", "input"}


class Page(HTMLParser):
    """Checks that tags balance, and collects text, tags, ids and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def entry(
    decision: str, mean: float | None, iteration: int, name: str = "p-1", parent: str = "original"
) -> HistoryEntry:
    return msgspec.convert(
        {
            "policy_id": name,
            "parent_id": parent,
            "decision": decision,
            "reason": "because",
            "iteration": iteration,
            "validation_mean": mean,
        },
        HistoryEntry,
    )


def outcome(
    task_id: str, before: float | None, after: float | None, split: str = "test", text: str = "q"
) -> TaskOutcome:
    return TaskOutcome(
        task_id=task_id,
        split=split,  # pyright: ignore[reportArgumentType]
        input=text,
        expected=text,
        baseline_reward=before,
        final_reward=after,
        baseline_output=text,
        final_output={"answer": text},
        final_reason=text,
    )


def result(text: str = "plain", **fields: object) -> TrainingResult:
    site = PromptSite(text or "s", text, "system", f"Be helpful. {text}")
    policy = Policy().with_prompt(site, f"Be brief. {text} ⟦x⟧")
    made = TrainingResult(
        policy=policy.with_demos(text, [Demo(text, text)]),
        verdict="improved",
        baseline=0.5,
        final=0.75,
        difference=0.25,
        interval=(0.1, 0.4),
        p_value=0.003,
        num_test_tasks=4,
        cost=Cost(calls=12, task_calls=10, optimizer_calls=2, usd=0.5, seconds=61),
        history=[
            entry("accepted", 0.6, 1),
            entry("rejected", 0.4, 2, "p-2", "p-1"),
            entry("refused", None, 2, "p-3", "p-1"),
            entry("accepted", 0.7, 3, policy.with_demos(text, [Demo(text, text)]).id, "p-1"),
        ],
        tasks=[
            outcome("won-task", 0.0, 1.0, text=text),
            outcome("lost-task", 1.0, 0.0, text=text),
            outcome("same-task", 1.0, 1.0, text=text),
            outcome("broken-task", 1.0, None, text=text),
            outcome("train-task", 0.0, 1.0, "train", text=text),
        ],
        sites=[site, PromptSite("other:system", "other", "system", "x")],
        notes=[text],
        run_id=text,
        agent_id=text,
        output_dir=text,
        reward_source=text,
        started_at=1_750_000_000.0,
    )
    return msgspec.structs.replace(made, **fields)


def test_several_stages_are_compared_on_the_same_tasks() -> None:
    winners = [
        Winner(policy_id="p-1", final=0.6, difference=0.1, interval=(-0.05, 0.25)),
        Winner(policy_id="p-9", final=0.75, difference=0.25, interval=(0.1, 0.4)),
    ]
    found = msgspec.structs.replace(entry("accepted", 0.6, 1, "p-1"), stage="1-apo")
    made = result(winners=winners, history=[found])
    page = Page(render(made))
    assert "Stage by stage" in page.text and "once and together" in page.text
    assert "+0.10" in page.text and "-0.05 to +0.25" in page.text.replace("−", "-") and "several" in page.text
    assert "Stage by stage on the same tasks: 1-apo 0.60, p-9 0.75." in made.summary()
    assert "Stage by stage" not in Page(render(result(winners=winners[:1]))).text


def test_what_a_stage_told_as_it_learned_is_drawn_as_a_line() -> None:
    curves = [
        Curve(stage="3-rl", name="reward", values=[0.2, 0.5, 0.9]),
        Curve(stage="2-sft", name="loss", values=[1.0, 0.5]),
    ]
    page = Page(render(result(curves=curves)))
    assert "3-rl: reward of the rollouts it learned from" in page.text
    assert (
        "aria-label",
        "3-rl: reward of the rollouts it learned from: 0.20 at first, 0.90 at last",
    ) in page.attributes
    assert "2-sft: loss" not in page.text, "two points are no curve"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\"><img src=x onerror='a()'>", "</style></pre>&amp;", "$body ${x}"]
)
def test_what_agents_wrote_is_only_ever_text(text: str) -> None:
    page = Page(render(result(text)))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(text) >= 12


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_gives_a_well_formed_page(text: str) -> None:
    page = Page(render(result(text)))
    assert "Improved from 0.50 to 0.75" in page.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = render(result())
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "a"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_every_part_of_the_run_is_on_the_page() -> None:
    text = Page(render(result("note-text"))).text
    numbers = ["+0.10 to +0.40", "p = 0.003", "4 tasks the search never saw", "$0.50", "1 min 01 s", "1.00 → none"]
    tasks = ["won-task", "lost-task", "same-task", "broken-task", "1 task of the search"]
    search = ["2 accepted, 1 rejected, 1 refused", "Which version came from which", "Unchanged: other:system"]
    for part in [*numbers, *tasks, *search, "Rewards came from: note-text", "15 June 2025"]:
        assert part in text, part


def test_losses_are_listed_before_wins() -> None:
    text = render(result())
    assert text.index("lost-task") < text.index("won-task") < text.index("broken-task") < text.index("same-task")


def test_many_tasks_fold_so_the_page_stays_short() -> None:
    page = Page(render(result(tasks=[outcome(f"t-{k}", 0.0, 1.0) for k in range(55)])))
    assert "35 more tasks" in page.text
    assert "t-54" in page.text


def test_a_long_output_is_cut_and_the_cut_is_counted() -> None:
    text = Page(render(result(tasks=[outcome("t", 0.0, 1.0, text="x" * 5_000)]))).text
    assert "1,000 more characters" in text


def test_changed_words_are_marked_without_their_white_space() -> None:
    assert "Be <del>helpful</del> <ins>brief</ins>." in render(result())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"interval": (-0.1, 0.6), "p_value": 0.2}, "includes zero, so this may be luck"),
        ({"interval": None, "p_value": None, "num_test_tasks": 0}, "No tasks were held out"),
        ({"interval": None, "p_value": None}, "too few to show anything"),
    ],
)
def test_not_shown_is_the_first_thing_read(fields: dict[str, object], said: str) -> None:
    page = Page(render(result(verdict="not shown", **fields)))
    assert said in page.text
    assert "Improvement not shown" in page.text
    assert ("class", "not-shown") in page.attributes


def test_a_kept_original_shows_no_bar_for_a_version_that_was_not_handed_back() -> None:
    kept = result(verdict="kept original", policy=Policy(), final=0.5, difference=-0.1, interval=(-0.3, 0.1))
    page = Page(render(kept))
    assert "Nothing: the agent runs as it did before." in page.text
    assert "New version: 0.50" not in [value for name, value in page.attributes if name == "aria-label"]


def test_a_run_with_nothing_in_it_still_has_a_page() -> None:
    page = Page(render(TrainingResult(policy=Policy(), verdict="kept original")))
    assert "No new version scored higher" in page.text
    assert "Task by task" not in page.text and "How the search went" not in page.text


@given(
    st.lists(
        st.tuples(st.sampled_from(["accepted", "rejected"]), st.floats(-1e6, 1e6), st.integers(0, 5)),
        min_size=1,
        max_size=12,
    )
)
def test_every_point_of_the_chart_lies_inside_it(rows: list[tuple[str, float, int]]) -> None:
    drawing = progress([entry(decision, mean, iteration) for decision, mean, iteration in rows])
    places = [float(place) for place in re.findall(r'(?:c[xy]|[xy][12]?)="([-\d.e]+)%"', drawing)]
    assert len(re.findall("<circle", drawing)) == len(rows)
    assert all(-0.01 <= place <= 100.01 for place in places)


def test_a_candidate_dropped_before_validation_is_not_drawn_as_refused() -> None:
    drawing = progress([entry("accepted", 0.5, 1), entry("rejected", None, 2)])
    assert '<text class="rejected"' in drawing and '<text class="refused"' not in drawing
    assert "dropped before validation" in drawing


def test_rounds_are_told_apart_by_stage_too() -> None:
    first, second = entry("rejected", 0.1, 1), msgspec.structs.replace(entry("rejected", 0.1, 1), stage="rl")
    assert [len(one.entries) for one in rounds_of([first, first, second])] == [2, 1]


def test_candidates_that_all_score_alike_can_be_drawn() -> None:
    assert 'class="accepted"' in progress([entry("accepted", 0.0, 1)])


def test_the_report_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    path = write_report(result("é⚡"), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render(result("é⚡"))
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_kinds_of_task_are_shown_with_their_wins_and_losses() -> None:
    regions = ["north", "north", "south", "south"]
    tasks = [
        msgspec.structs.replace(outcome(f"t{i}", 0.0, float(i < 2)), metadata={"region": region})
        for i, region in enumerate(regions)
    ]
    page = Page(render(result(tasks=tasks)))
    assert "Kinds of task" in page.text and "region: north" in page.text
    assert "Kinds of task" not in Page(render(result())).text
    assert "One point (0.01) more cost" in page.text and "characters before" in page.text
