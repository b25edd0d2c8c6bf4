"""What goes wrong is one message that names the place and the remedy, and what was done is kept."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, open_store, wrap_agent
from agentlightning.errors import AgentError, AgentLightningError, ConfigError, DataError, ModelError
from agentlightning.store.trajectories import read_trajectories


def train(agent: Any, folder: Path, tasks: Any = None, **settings: Any) -> Any:
    settings = {"max_epochs": 1, "retries": 0, **settings}
    made = Trainer(agent, data_dir=folder / "data", output_dir=folder / "out", progress=False, **settings)
    return made.train(tasks if tasks is not None else loud_tasks(20))


def stored(folder: Path) -> list[Any]:
    async def read() -> list[Any]:
        store = open_store(folder / "data")
        found = [trajectory async for trajectory in read_trajectories(store)]
        await store.close()
        return found

    return asyncio.run(read())


def test_an_agent_that_always_raises(tmp_path: Path) -> None:
    def broken(question: str) -> str:
        raise KeyError("colour")

    with pytest.raises(
        AgentError, match=r"failed on all .* KeyError: 'colour' \(at .*test_failures.py:\d+ in broken\)"
    ):
        train(broken, tmp_path)
    assert all(run.status == "failed" and run.reward == 0.0 for run in stored(tmp_path))


def test_an_agent_that_sometimes_raises_is_data(tmp_path: Path) -> None:
    with FakeOpenAI(shouting_model) as server:

        def flaky(question: str) -> str:
            answer = repeat(server, question)
            if question.endswith("1"):
                raise ValueError("odd one out")
            return answer

        result = train(flaky, tmp_path)
    failed = [run for run in stored(tmp_path) if run.status == "failed"]
    assert failed and all(run.reward == 0.0 and "odd one out" in (run.reason or "") for run in failed)
    assert result.verdict == "improved"


def test_an_agent_that_hangs_is_ended_and_cannot_call_its_model_any_more(tmp_path: Path) -> None:
    with FakeOpenAI(shouting_model) as server:

        def slow(question: str) -> str:
            if question.startswith("apple"):
                time.sleep(1.5)
            return repeat(server, question)

        result = train(slow, tmp_path, timeout_seconds=0.6, budget={"calls": 60})
        time.sleep(1.2)
        calls = len(server.requests)
    late = [run for run in stored(tmp_path) if run.status == "timeout"]
    assert late and all("no answer after 0.6 s" in run.reason for run in late)
    assert calls == result.cost.calls
    assert any("hung past their time-out" in note for note in result.notes)


def test_an_agent_that_always_hangs(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no answer after 0.2 s.*timeout_seconds"):
        train(lambda question: time.sleep(0.5), tmp_path, timeout_seconds=0.2)


def test_an_agent_that_calls_no_model(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="made no model call.*httpx, requests or aiohttp"):
        train(lambda question: "42", tmp_path)


def test_an_agent_that_returns_nothing_is_pointed_out(tmp_path: Path) -> None:
    def silent(question: str) -> None:
        repeat(server, question)

    with FakeOpenAI(shouting_model) as server:
        result = train(silent, tmp_path)
    assert any("returned nothing (None)" in note for note in result.notes)
    assert result.verdict == "kept original"


def test_a_model_that_is_down(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"

        class Nobody:
            base_url = url

        with pytest.raises(
            ModelError, match=rf"{url}/chat/completions failed.*Start the server, or check the base URL"
        ):
            train(lambda question: repeat(Nobody(), question), tmp_path)  # type: ignore[arg-type]
    assert all(run.reward is None for run in stored(tmp_path))


@pytest.mark.parametrize(
    ("status", "says"), [(401, "The key was refused"), (404, "check the base URL"), (503, "provider has a problem")]
)
def test_a_model_that_refuses(tmp_path: Path, status: int, says: str) -> None:
    with FakeOpenAI() as server:
        server.next_status(status, times=100)
        with pytest.raises(ModelError, match=f"HTTP {status}.*{says}"):
            train(lambda question: repeat(server, question), tmp_path)


def test_a_model_that_answers_garbage(tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        server.garbage(times=100)
        with pytest.raises(ModelError, match="cannot be read as chat"):
            train(lambda question: repeat(server, question), tmp_path)


def test_a_model_that_goes_down_midway_keeps_what_was_done(tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        left = [30]

        def failing(body: dict[str, Any]) -> Any:
            left[0] -= 1
            if left[0] == 0:
                server.next_status(500, times=10_000)
            return shouting_model(body)

        server.reply(failing)
        with pytest.raises(ModelError, match="what was done so far is kept"):
            train(lambda question: repeat(server, question), tmp_path, max_in_flight=4, tasks=loud_tasks(60))
    assert sum(run.reward is not None for run in stored(tmp_path)) >= 20


def test_a_passing_fault_is_retried_and_costs_the_agent_nothing(tmp_path: Path) -> None:
    with FakeOpenAI(shouting_model) as server:
        server.next_status(503, times=2)
        result = train(lambda question: repeat(server, question), tmp_path, retries=2)
    assert result.verdict == "improved"
    assert any(run.attempt == 2 for run in stored(tmp_path))


def test_nothing_that_says_what_is_good(tmp_path: Path) -> None:
    with FakeOpenAI("ok") as server, pytest.raises(ConfigError, match="expected.*reward=.*emit_reward.*judge"):
        agent = wrap_agent(lambda question: repeat(server, question))
        made = Trainer(agent, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False)
        server.route("/v1/chat/completions", "ok")
        made.agent.adapter.agent = lambda question: "42"
        made.train(["a", "b"])


def test_a_reward_function_that_raises(tmp_path: Path) -> None:
    def wrong(task: Any, run: Any) -> float:
        return run.output["score"]

    with FakeOpenAI("ok") as server, pytest.raises(DataError, match="reward 'wrong'.*raised TypeError"):
        train(lambda question: repeat(server, question), tmp_path, reward=wrong)
    assert all(run.reward is None for run in stored(tmp_path))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_epoch": 3}, "Did you mean 'max_epochs'"),
        ({"max_epochs": "three"}, "max_epochs"),
        ({"algorithm": "aop"}, "Did you mean 'apo'"),
        ({"algorithm": [{"name": "apo", "params": {"minibatch": 3}}]}, "Did you mean 'minibatch_size'"),
        ({"reward": "exact_mach"}, "Did you mean 'exact_match'"),
        ({"budget": {"call": 3}}, "calls"),
    ],
)
def test_wrong_settings_name_the_nearest_right_one(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(AgentLightningError, match=says):
        Trainer(lambda x: x, progress=False, output_dir=tmp_path, data_dir=tmp_path, **settings).train(["a"])


def test_no_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tasks"):
        Trainer(lambda x: x, progress=False).train()


def test_a_policy_for_another_agent_is_refused(tmp_path: Path) -> None:
    from agentlightning import load_optimized_agent

    with FakeOpenAI(shouting_model) as server:
        train(wrap_agent(lambda q: repeat(server, q), name="parrot"), tmp_path)
        with pytest.raises(AgentError, match="made for parrot.*name='parrot'"):
            load_optimized_agent(tmp_path / "out", wrap_agent(lambda q: q, name="crow"))


def test_an_agent_whose_tools_write_is_warned_about(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"repeat": repeat}
    source = """
TOOLS = [{"type": "function", "function": {"name": "send_email", "description": "Send it"}}]
def send_email(to): return to
def agent(question):
    send_email(question)
    return repeat(server, question)
"""
    exec(source, namespace)
    with FakeOpenAI(shouting_model) as server:
        namespace["server"] = server
        result = train(namespace["agent"], tmp_path)
        assert any("send_email" in note and "stub" in note for note in result.notes)
        quiet = train(wrap_agent(namespace["agent"], tools={"send_email": "stub"}), tmp_path / "stubbed")
        assert not any("send_email" in note for note in quiet.notes)
