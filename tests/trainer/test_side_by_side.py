"""Several runs at once, and runs in odd places: each keeps to itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
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
from tests.trainer import isolated_agents as agents
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, WrappedAgent, open_store, wrap_agent
from agentlightning.store.trajectories import read_trajectories


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def train(agent: Any, folder: Path, data: Path | None = None, **settings: Any) -> TrainingResult:
    given: dict[str, Any] = {"max_epochs": 1, **settings}
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


def test_two_trainers_on_one_async_agent_at_once_share_its_client(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client belongs to the loop that first used it, so both runs must run it there."""
    monkeypatch.setenv("MODEL_URL", server.base_url)
    agent = wrap_agent(agents.async_parrot)
    for _ in range(2):  # a loop that has ended, too, leaves nothing behind
        with ThreadPoolExecutor(2) as pool:
            runs = [pool.submit(train, agent, tmp_path / str(number), seed=number) for number in range(2)]
            results = [run.result() for run in runs]
        assert [(result.baseline, result.final) for result in results] == [(0.0, 1.0), (0.0, 1.0)]
        assert not any("failed" in note or "hung" in note for result in results for note in result.notes)


def test_two_handles_on_one_agent_keep_their_own_tool_modes(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_URL", server.base_url)
    monkeypatch.setenv("LOOK_UPS", str(tmp_path / "look_ups"))
    live = wrap_agent(agents.user_of_tools)
    stubbed = wrap_agent(agents.user_of_tools, tools={"look_up": {"mode": "stub", "returns": "STUB"}})

    def measured(agent: WrappedAgent, folder: str) -> set[str]:
        trainer = Trainer(agent, data_dir=tmp_path / folder, output_dir=tmp_path / folder, progress=False)
        trainer.objects["reward"] = lambda task, trajectory: 1.0
        return {str(trajectory.output) for trajectory in trainer.evaluate(["a", "b", "c"]).trajectories}

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(measured, live, "live"), pool.submit(measured, stubbed, "stubbed")]
        assert [run.result() for run in runs] == [{"WORD"}, {"STUB"}]
    assert (tmp_path / "look_ups").read_text().split() == ["word"] * 3


PROCESS = """
import sys
sys.path.insert(0, {root!r})
from agentlightning import Trainer, wrap_agent
from tests.trainer.isolated_agents import parrot
from tests.trainer.worlds import loud_tasks
agent = wrap_agent(parrot, name=sys.argv[1])
made = Trainer(agent, data_dir="shared", output_dir=sys.argv[1], progress=False, max_epochs=1)
print(made.train(loud_tasks(20)).run_id)
"""


def test_two_processes_in_one_store_at_once_keep_apart(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_URL", server.base_url)
    (tmp_path / "run.py").write_text(PROCESS.format(root=str(Path(__file__).parents[2])))
    runs = [
        subprocess.Popen([sys.executable, "run.py", name], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    ids = [run.communicate()[0].split()[-1] for run in runs]
    assert rollouts_by_run(tmp_path / "shared").keys() == set(ids)
    saved = [(tmp_path / name / "policy.yaml").read_text() for name in ("one", "two")]
    assert "one:system" in saved[0] and "two:system" in saved[1]
    assert "two:system" not in saved[0] and "one:system" not in saved[1]


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


def test_a_run_that_an_async_handler_hands_to_a_thread_lets_it_answer_others(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    """While it trains, the same agent answers other requests, unsteered, and they are no part of the run."""
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")

    async def training(_: Any) -> JSONResponse:
        return JSONResponse((await asyncio.to_thread(train, agent, tmp_path)).verdict)

    async def asking(_: Any) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(agent, "mine"))

    app = Starlette(routes=[Route("/train", training), Route("/ask", asking)])
    with TestClient(app) as client, ThreadPoolExecutor(1) as pool:
        run = pool.submit(client.get, "/train")
        answers: list[str] = []
        while not run.done():
            answers.append(client.get("/ask").json())
        assert run.result().json() == "improved"
    assert answers and set(answers) == {"mine"}
    assert sum(rollouts_by_run(tmp_path / "data").values()) == len(server.requests) - len(answers) - num_own(server)


def num_own(server: FakeOpenAI) -> int:
    """Calls of our own models."""
    return sum("<runs>" in seen.body.decode() or "<rubric>" in seen.body.decode() for seen in server.requests)


TESTS = """
import sys
sys.path.insert(0, {root!r})
import asyncio, pytest
from agentlightning import Trainer, wrap_agent
from tests.trainer.isolated_agents import async_parrot, parrot
from tests.trainer.worlds import loud_tasks

@pytest.mark.parametrize("agent", [parrot, async_parrot, parrot])
def test_it_gets_better(agent, tmp_path):
    made = Trainer(wrap_agent(agent), data_dir=tmp_path / "data", output_dir=tmp_path / "out", max_epochs=1)
    assert made.train(loud_tasks(20)).verdict == "improved"

async def test_it_gets_better_in_a_loop(tmp_path):
    agent = wrap_agent(async_parrot)
    made = Trainer(agent, data_dir=tmp_path / "data", output_dir=tmp_path / "out", max_epochs=1)
    assert made.train(loud_tasks(20)).verdict == "improved"

def test_the_agents_are_as_they_were():
    assert parrot("hello") == "hello"
    assert asyncio.run(async_parrot("hello")) == "hello"
"""


def test_trainers_inside_pytest_leave_no_trace(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With warnings as errors, output captured, and a plugin that runs async tests on a loop of its own."""
    monkeypatch.setenv("MODEL_URL", server.base_url)
    (tmp_path / "test_inner.py").write_text(TESTS.format(root=str(Path(__file__).parents[2])))
    plugin = ["-o", "anyio_mode=auto"]
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *plugin, "test_inner.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "5 passed" in done.stdout, done.stdout + done.stderr


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
