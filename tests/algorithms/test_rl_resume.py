"""A killed training goes on to the very weights it would have reached; a spent budget ends it with the best so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.algorithms.rl_worlds import LocalSession, TableEngine, Team, killed_after, on_a_loop
from tests.algorithms.test_rl_learning import FAST, TASKS, one_turn, relay

from agentlightning.algorithms import ALGORITHMS
from agentlightning.data.task import Task
from agentlightning.errors import BudgetExhausted

SLOWLY: dict[str, Any] = FAST | {"policy_lr": 3.0, "batch_size": 2, "iterations": 9, "evaluate_every": 2}


@pytest.mark.parametrize(
    ("play", "agents", "settings"),
    [
        (one_turn, ["solo"], {}),
        (one_turn, ["solo"], {"curriculum": "uncertain", "redraws": 2}),
        (one_turn, ["solo"], {"method": "ppo"}),
        (relay, ["coder", "reviewer"], {"cooperation": "difference"}),
    ],
)
@on_a_loop
async def test_a_killed_training_reaches_the_same_weights(
    tmp_path: Path, play: Any, agents: list[str], settings: dict[str, Any]
) -> None:
    def session(folder: str, restored: Any = None) -> LocalSession:
        given: dict[str, Any] = {"engine": TableEngine(), "agents": agents, "tasks": TASKS, "max_epochs": 2}
        return LocalSession(play, tmp_path / folder, restored=restored, **given)

    rl = ALGORITHMS.load("rl")(**SLOWLY | settings)
    whole = session("whole")
    wanted = await rl.train(whole)
    state = None
    for num_checkpoints in (2, 3):
        part = session("parts", state)
        with killed_after(part, num_checkpoints):
            await rl.train(part)
        state = part.checkpoints[-1]
    last = session("parts", state)
    assert await rl.train(last) == wanted and wanted.weights
    assert last.checkpoints[-1] == whole.checkpoints[-1]
    assert last.engine.tables == whole.engine.tables
    assert "goes on after iteration 5" in last.words


@on_a_loop
async def test_a_training_that_was_done_is_not_done_again(tmp_path: Path) -> None:
    first = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    rl = ALGORITHMS.load("grpo")(**FAST)
    wanted = await rl.train(first)
    again = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS, restored=first.checkpoints[-1])
    assert await rl.train(again) == wanted and not again.engine.updates
    assert (await again.evaluate(wanted)).mean == 1.0, "its weights are known to the new engine"


@on_a_loop
async def test_groups_in_flight_are_asked_for_again_under_their_own_weights(tmp_path: Path) -> None:
    rl = ALGORITHMS.load("grpo")(**SLOWLY, max_staleness=2)
    first = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    with killed_after(first, 4):
        await rl.train(first)
    waiting = first.checkpoints[-1]["rest"]["gathering"]["waiting"]
    now = await first.engine.snapshot("solo")
    assert waiting and any(ticket["weights"].get("solo") != now for ticket in waiting)
    again = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS, restored=first.checkpoints[-1])
    await rl.train(again)
    assert max(again.metric("staleness_max")) <= 2 and again.checkpoints[-1]["num_updates"] == 9


@on_a_loop
async def test_old_iterations_do_not_pile_up_on_disk(tmp_path: Path) -> None:
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    await ALGORITHMS.load("grpo")(**SLOWLY).train(session)
    assert [place.name for place in (tmp_path / "iterations").iterdir()] == ["9"]
    assert len(list((tmp_path / "versions").iterdir())) == 1


@on_a_loop
async def test_a_spent_budget_ends_training_with_the_best_so_far(tmp_path: Path) -> None:
    async def play(team: Team, task: Task) -> float:
        if len(session.asked) > 150:
            raise BudgetExhausted("150 calls are spent")
        return await one_turn(team, task)

    session = LocalSession(play, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await ALGORITHMS.load("grpo")(**FAST | {"evaluate_every": 2, "iterations": 100}).train(session)
    assert learned.weights and "150 calls are spent" in session.words
