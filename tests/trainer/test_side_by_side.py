"""Several runs at once, and runs in odd places: each keeps to itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, open_store, wrap_agent
from agentlightning.store.trajectories import read_trajectories


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def train(agent: Any, folder: Path, data: Path | None = None, **settings: Any) -> TrainingResult:
    given = {"max_epochs": 1, **settings}
    trainer = Trainer(agent, data_dir=data or folder / "data", output_dir=folder / "out", progress=False, **given)
    return trainer.train(loud_tasks(20))


def rollouts_by_run(folder: Path) -> dict[str, int]:
    async def read() -> dict[str, int]:
        store = open_store(folder)
        counts: dict[str, int] = {}
        async for trajectory in read_trajectories(store):
            assert all(step.rollout_id == trajectory.id for step in trajectory.steps)
            counts[trajectory.run_id] = counts.get(trajectory.run_id, 0) + 1
        await store.close()
        return counts

    return asyncio.run(read())


def test_two_runs_in_one_store_at_once_keep_apart(server: FakeOpenAI, tmp_path: Path) -> None:
    agents = [wrap_agent(lambda question: repeat(server, question), name=name) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(train, a, tmp_path / a.agent_id, tmp_path / "shared") for a in agents]
        results = [run.result() for run in runs]
    assert [result.verdict for result in results] == ["improved", "improved"]
    assert [set(result.prompts) for result in results] == [{"one:system"}, {"two:system"}]
    assert rollouts_by_run(tmp_path / "shared").keys() == {result.run_id for result in results}


def test_two_trainers_on_one_agent_at_once_do_not_steer_each_other(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(train, agent, tmp_path / str(number), seed=number) for number in range(2)]
        results = [run.result() for run in runs]
    assert [(result.baseline, result.final) for result in results] == [(0.0, 1.0), (0.0, 1.0)]
    assert agent("hello") == "hello"


def test_a_run_inside_a_running_loop_leaves_that_loop_alone(server: FakeOpenAI, tmp_path: Path) -> None:
    """As in a notebook: `train` blocks the cell, and what the loop had waiting goes on after it."""

    async def cell() -> tuple[TrainingResult, str]:
        waiting = asyncio.ensure_future(asyncio.sleep(0, "still here"))
        result = train(wrap_agent(lambda question: repeat(server, question), name="parrot"), tmp_path)
        return result, await waiting

    result, waited = asyncio.run(cell())
    assert (result.verdict, waited) == ("improved", "still here")


def test_runs_inside_a_web_servers_handlers_keep_apart(server: FakeOpenAI, tmp_path: Path) -> None:
    def handler(request: Any) -> JSONResponse:
        name = request.path_params["name"]
        agent = wrap_agent(lambda question: repeat(server, question), name=name)
        result = train(agent, tmp_path / name)
        return JSONResponse({"verdict": result.verdict, "sites": list(result.prompts)})

    with TestClient(Starlette(routes=[Route("/{name}", handler)])) as client, ThreadPoolExecutor(2) as pool:
        responses = list(pool.map(lambda name: client.get(f"/{name}").json(), ["left", "right"]))
    assert responses == [
        {"verdict": "improved", "sites": ["left:system"]},
        {"verdict": "improved", "sites": ["right:system"]},
    ]


def test_the_users_own_calls_during_a_run_are_neither_steered_nor_recorded(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train, agent, tmp_path)
        answers: list[str] = []
        with httpx.Client() as own:
            while not run.done():
                body = {"model": "m", "messages": [{"role": "user", "content": "mine"}]}
                answer = own.post(f"{server.base_url}/chat/completions", json=body).json()
                answers.append(answer["choices"][0]["message"]["content"])
        run.result()
    assert answers and set(answers) == {"mine"}

    async def mine() -> int:
        store = open_store(tmp_path / "data")
        count = sum([t.input == "mine" or "mine" in str(t.steps) async for t in read_trajectories(store)])
        await store.close()
        return count

    assert asyncio.run(mine()) == 0
