"""A result as tables, as a picture and in a notebook: what is shown is what was measured, and where."""

from __future__ import annotations

import sys

import matplotlib
import pytest

from agentlightning import TrainingResult
from agentlightning.data.resource import Policy
from agentlightning.errors import ConfigError, MissingExtra
from agentlightning.trainer.result import HistoryEntry, TaskOutcome

matplotlib.use("Agg")


def result(num_test_tasks: int = 8, verdict: str = "improved") -> TrainingResult:
    history = [
        HistoryEntry(policy_id="a", parent_id="original", decision="rejected", reason="", validation_mean=0.3),
        HistoryEntry(policy_id="b", parent_id="original", decision="accepted", reason="better", validation_mean=0.7),
        HistoryEntry(policy_id="c", parent_id="b", decision="refused", reason="slot lost"),
    ]
    tasks = [
        TaskOutcome(task_id=f"t{i}", split="test", input=f"q{i}", expected="x", baseline_reward=float(i < 2),
                    final_reward=1.0 if i else None, baseline_output="y", final_output="x")
        for i in range(8)
    ]  # fmt: skip
    return TrainingResult(
        policy=Policy(), verdict=verdict, baseline=0.25, final=1.0, difference=0.75, interval=(0.2, 0.9), p_value=0.01,
        num_test_tasks=num_test_tasks, history=history, tasks=tasks,
    )  # fmt: skip


def test_the_tasks_are_a_table_with_the_difference_of_each() -> None:
    frame = result().to_pandas()
    assert list(frame["task_id"]) == [f"t{i}" for i in range(8)]
    assert frame["difference"].isna().tolist() == [True] + [False] * 7
    assert frame.loc[2, "difference"] == 1.0 and frame.loc[1, "outcome"] == "same" and frame.loc[0, "expected"] == "x"
    assert frame["final_reward"].dtype == float


def test_the_decisions_are_another_table_and_a_wrong_word_is_named() -> None:
    frame = result().to_pandas("history")
    assert list(frame["decision"]) == ["rejected", "accepted", "refused"] and frame["validation_mean"].isna().sum() == 1
    assert result().to_pandas("history").columns[0] == "policy_id"
    with pytest.raises(ConfigError, match="Did you mean 'history'"):
        result().to_pandas("histories")  # pyright: ignore[reportArgumentType]


def test_the_plot_labels_on_which_tasks_each_thing_was_measured() -> None:
    axes = result().plot()
    labels = axes.get_legend_handles_labels()[1]
    assert {"rejected, on validation tasks", "accepted, on validation tasks", "original, 8 held-out tasks",
            "its 95 % interval", "new, 8 held-out tasks"} <= set(labels)  # fmt: skip
    assert axes.get_title() == "Improved from 0.25 to 1.00"
    [band] = [patch for patch in axes.patches if patch.get_label() == "its 95 % interval"]
    low, high = band.get_extents().transformed(axes.transData.inverted()).get_points()[:, 1]
    assert 0 <= low < 0.25 < high <= 1
    matplotlib.pyplot.close(axes.figure)


def test_what_was_not_held_out_or_not_measured_is_not_drawn_as_if() -> None:
    axes = result(num_test_tasks=0, verdict="kept original").plot()
    labels = axes.get_legend_handles_labels()[1]
    assert "original, tasks of the search" in labels and not any(label.startswith("new") for label in labels)
    empty = TrainingResult(policy=Policy(), verdict="kept original")
    given = axes.figure.add_subplot()
    assert empty.plot(given) is given
    assert len(empty.to_pandas()) == 0
    matplotlib.pyplot.close(axes.figure)


def test_a_notebook_shows_the_verdict_the_evidence_and_the_tasks_escaped() -> None:
    shown = result()._repr_html_()
    assert "Improved from 0.25 to 1.00" in shown and "Task by task: 6 won, 1 same, 1 unjudged." in shown
    noted = TrainingResult(policy=Policy(), verdict="not shown", notes=["<script>"])
    assert "&lt;script&gt;" in noted._repr_html_()


@pytest.mark.parametrize(("package", "extra"), [("pandas", "pandas"), ("matplotlib", "plot")])
def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"needs the {package} package:  pip install 'agentlightning\[{extra}\]'"):
        result().to_pandas() if package == "pandas" else result().plot()


def test_the_history_is_a_tree_of_versions() -> None:
    entries = [
        ("p-1", "o", "accepted"),
        ("p-2", "p-1", "rejected"),
        ("p-3", "p-1", "accepted"),
        ("p-1", "p-3", "rejected"),
    ]
    history = [
        HistoryEntry(policy_id=id, parent_id=parent, decision=decision, reason="r", idea=f"idea\nof {id}")  # pyright: ignore[reportArgumentType]
        for id, parent, decision in entries
    ]
    assert TrainingResult(policy=Policy(), verdict="improved", history=history).tree().splitlines() == [
        "o",
        "└─ p-1 accepted: idea of p-1",
        "   ├─ p-2 rejected: idea of p-2",
        "   └─ p-3 accepted: idea of p-3",
        "      └─ p-1 rejected: idea of p-1",
    ]


def test_a_version_proposed_again_and_the_original_come_back_to_stand_once_in_the_tree() -> None:
    entries = [
        ("p-1", "original", "refused"),
        ("p-1", "original", "accepted"),
        ("p-2", "p-1", "rejected"),
        ("original", "p-1", "rejected"),
        ("p-2", "p-1", "refused"),
    ]
    history = [
        HistoryEntry(policy_id=id, parent_id=parent, decision=decision, reason="r")  # pyright: ignore[reportArgumentType]
        for id, parent, decision in entries
    ]
    assert TrainingResult(policy=Policy(), verdict="improved", history=history).tree().splitlines() == [
        "original",
        "└─ p-1 accepted (proposed 2 times)",
        "   ├─ p-2 rejected (proposed 2 times)",
        "   └─ original rejected",
    ]
