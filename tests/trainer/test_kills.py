"""A few of the random kills that `benchmarks/kills.py` makes by the hundred."""

from __future__ import annotations

import pytest
from benchmarks.kills import Killing


@pytest.fixture(scope="module")
def killing(tmp_path_factory: pytest.TempPathFactory) -> Killing:
    killing = Killing("capped", tmp_path_factory.mktemp("kills"), seed=1)
    killing.leave_alone("whole")
    return killing


@pytest.mark.timeout(300)  # up to six processes, one after another
@pytest.mark.parametrize("number", [3, 4], ids=["twice", "and the folder was moved"])
def test_a_run_killed_at_a_random_moment_ends_as_it_would_have(killing: Killing, number: int) -> None:
    trial = killing.kill(number)
    assert trial.is_fine, trial
