"""The trainable story, end to end and in small: the product's trainer, engine and algorithms on the shipped model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from agentlightning.demo.sql import story
from agentlightning.errors import MissingExtra

SMALL: list[dict[str, Any]] = [
    {"name": "apo", "params": {"rounds": 1, "minibatch_size": 8, "bootstrap_demos": 0, "delete_lines": False}},
    {"name": "sft", "params": {"rollouts_per_task": 2, "epochs": 1, "learning_rate": 5e-4}},
    {"name": "rl", "params": {"iterations": 1, "batch_size": 4, "group_size": 4}},
]


@pytest.mark.timeout(300)
def test_all_stages_run_and_the_environment_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(story, "STAGES", SMALL)
    monkeypatch.setattr(story, "SIZES", {"train": 16, "validation": 12, "test": 12})
    before = dict(os.environ)
    result = story.tell(output=str(tmp_path), seed=0)
    assert dict(os.environ) == before
    told = "".join(capsys.readouterr())
    assert all(part in told for part in ("made lazy", "simulated optimiser", "1-apo", "2-sft", "3-rl"))
    assert 0.0 <= (result.baseline or 0.0) <= 1.0
    saved = {path.name for path in (tmp_path / "optimized_results").iterdir()}
    assert {"policy.yaml", "report.html", "result.json", "trajectories.jsonl"} <= saved


def test_what_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(story, "find_spec", lambda name: None if name == "torch" else True)
    with pytest.raises(MissingExtra, match=r"needs torch:  pip install 'agentlightning\[demo,train\]'"):
        story.tell(output=str(tmp_path), seed=0)
