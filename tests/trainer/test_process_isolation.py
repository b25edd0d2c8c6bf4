"""Rollouts in worker processes: all that holds for an agent in our own process, and failures that cannot end a run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.engines import Answering, ByteEngine
from tests.servers import FakeOpenAI
from tests.trainer import isolated_agents as agents
from tests.trainer.worlds import loud_tasks, shouting_model

from agentlightning import BaseAlgorithm, Call, Policy, Reply, Session, Trainer, wrap_agent
from agentlightning.errors import AgentError, ContextTooLong, ModelError
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope
from agentlightning.interception.tools import Tape, ToolMode, ToolModes
from agentlightning.trainer.execution import AgentFailed
from agentlightning.trainer.measure import Measurement
from agentlightning.trainer.workers.pool import Workers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        monkeypatch.setenv("MODEL_URL", running.base_url)
        yield running


@pytest.fixture
def look_ups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    path = tmp_path / "look_ups"
    monkeypatch.setenv("LOOK_UPS", str(path))
    return lambda: path.read_text().split() if path.exists() else []


def trainer(agent: Any, folder: Path, **settings: Any) -> Trainer:
    given: dict[str, Any] = {"isolation": "process", "num_workers": 2, "progress": False, "retries": 0, **settings}
    return Trainer(agent, data_dir=folder / "data", output_dir=folder / "out", **given)


def measured(agent: Any, folder: Path, questions: Sequence[str], **settings: Any) -> Measurement:
    tasks = [{"input": question, "expected": question} for question in questions]
    return trainer(agent, folder, **settings).evaluate(tasks)


def in_workers(agent: Any, scopes: Sequence[Scope], task_input: Any = "hello") -> list[Any]:
    """What each scope's rollout gave or raised, all at the same time."""

    async def one(workers: Workers, scope: Scope) -> Any:
        async with workers.seat() as seat:
            return await seat.run_agent(task_input, scope, 60)

    async def every() -> list[Any]:
        workers = Workers(agent)
        try:
            return await asyncio.gather(*(one(workers, scope) for scope in scopes), return_exceptions=True)
        finally:
            workers.close()

    return asyncio.run(every())


def scope(**options: Any) -> Scope:
    return Scope("agent", recorder=Recorder(), **options)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """And not merely unburied."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- as in our own process ---------------------------------------------------------------------------------------------


def test_training_in_workers_gives_what_training_in_threads_gives(server: FakeOpenAI, tmp_path: Path) -> None:
    results = [
        trainer(agents.parrot, tmp_path / isolation, isolation=isolation, max_epochs=1).train(loud_tasks(20))
        for isolation in ("thread", "process")
    ]
    assert [result.verdict for result in results] == ["improved", "improved"]
    assert results[0].policy.id == results[1].policy.id
    assert results[0].cost.calls == results[1].cost.calls == len(server.requests) / 2


@pytest.mark.parametrize("agent", [agents.async_parrot, agents.streaming_parrot, agents.decorated])
def test_every_kind_of_function_runs_and_is_recorded(server: FakeOpenAI, tmp_path: Path, agent: Any) -> None:
    done = measured(agent, tmp_path, ["one", "two", "three"])
    assert [trajectory.output.strip() for trajectory in done.trajectories] == ["one", "two", "three"]
    assert all(len(trajectory.steps) == 1 for trajectory in done.trajectories)
    assert done.cost.task_calls == 3 == len(server.requests)


def test_an_agent_of_a_file_is_loaded_by_its_path(server: FakeOpenAI, tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text(
        "import os, httpx\n"
        "def answer(question):\n"
        "    body = {'model': 'm', 'messages': [{'role': 'user', 'content': question}]}\n"
        "    answer = httpx.post(os.environ['MODEL_URL'] + '/chat/completions', json=body).json()\n"
        "    return answer['choices'][0]['message']['content']\n"
        "tasks = [{'input': word, 'expected': word} for word in ('one', 'two')]\n"
    )
    (tmp_path / "al_config.yaml").write_text(
        "agent: {path: my_agent.py}\ntrainer: {isolation: process, num_workers: 1, progress: off}\n"
    )
    code = "from agentlightning.cli.main import main; main(['eval', '-c', 'al_config.yaml'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "mean reward 1.00 on 2 tasks" in done.stdout, done.stderr


def test_agents_that_are_not_safe_side_by_side_are_alone_on_their_main_thread(tmp_path: Path) -> None:
    done = trainer(agents.counting, tmp_path, reward=lambda task, trajectory: 1.0).evaluate([str(i) for i in range(20)])
    seen = [trajectory.output for trajectory in done.trajectories]
    assert all(output["is_main_thread"] for output in seen)
    pids = {output["pid"] for output in seen}
    assert len(pids) == 2 and os.getpid() not in pids
    for pid in pids:
        counts = sorted(output["count"] for output in seen if output["pid"] == pid)
        assert counts == list(range(1, len(counts) + 1))


def test_the_agents_own_rewards_come_back_even_from_one_that_crashes(server: FakeOpenAI, tmp_path: Path) -> None:
    done = trainer(agents.proud, tmp_path).evaluate(["one", "two crash"])
    assert done.reward_source == "the agent's own emit_reward"
    assert [trajectory.reward for trajectory in done.trajectories] == [0.7, 0.7]
    assert [trajectory.status for trajectory in done.trajectories] == ["succeeded", "failed"]
    for trajectory in done.trajectories:
        given = [(reward.value, reward.name, reward.step) for reward in trajectory.rewards]
        assert given == [(0.5, "reward", 0), (2.0, "words", None), (0.7, "reward", None)]


def test_the_model_the_agent_uses_is_known_for_our_own_calls(server: FakeOpenAI, tmp_path: Path) -> None:
    trainer(agents.parrot, tmp_path, max_epochs=1).train(loud_tasks(20))
    ours = [seen for seen in server.requests if "<runs>" in seen.body.decode()]
    assert ours and {seen.headers["authorization"] for seen in ours} == {"Bearer sk-agent"}


def test_programs_the_agent_runs_are_taken_along(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789")
    result = trainer(agents.delegating, tmp_path, max_epochs=1).train(loud_tasks(20))
    assert result.verdict == "improved" and list(result.prompts) == ["delegating:system"]
    assert result.cost.calls == len(server.requests)


def test_an_engine_answers_in_a_worker_and_its_ids_are_recorded(server: FakeOpenAI) -> None:
    with ByteEngine(Reply({"role": "assistant", "content": "trained"}, "stop")) as engine:
        scopes = [scope(responder=Answering(engine)) for _ in range(2)]
        assert in_workers(wrap_agent(agents.parrot), scopes) == ["trained", "trained"]
    for each in scopes:
        assert each.recorder is not None
        [seen] = each.recorder.steps()
        assert seen.is_from_engine and seen.completion_ids and seen.logprobs
        assert seen.rollout_id == each.recorder.rollout_id
    assert not server.requests


def test_an_engine_that_refuses_is_told_in_the_agents_dialect(server: FakeOpenAI) -> None:
    with ByteEngine() as engine:
        engine.fail(ContextTooLong("too long by 7"))
        each = scope(responder=Answering(engine))
        [error] = in_workers(wrap_agent(agents.parrot), [each])
    assert isinstance(error, AgentFailed) and "400 Bad Request" in str(error)
    assert each.recorder is not None and "too long by 7" in (each.recorder.steps()[0].error or "")


def test_a_budget_stops_agents_in_workers(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(agents.parrot, tmp_path, max_epochs=1, budget={"calls": 31}).train(loud_tasks(20))
    assert result.cost.calls <= 31 and len(server.requests) <= 31


class Shouting(BaseAlgorithm[Any]):
    """Its `predict` is not the default, and cannot be pickled."""

    name = "shouting"

    def __init__(self) -> None:
        self.unpicklable = lambda text: text + " Always shout."
        super().__init__()

    async def train(self, session: Session) -> Policy:
        await session.rollout(session.training_tasks[:2])
        return session.policy.with_prompt(session.sites[0], session.sites[0].template + " ")

    def predict(self, call: Call, policy: Policy) -> Call:
        first, *rest = call.messages
        changed = {**first, "content": self.unpicklable(first["content"])}
        return Call(call.agent, call.model, [changed, *rest], call.tools, call.params, call.stream)


def test_an_algorithms_own_predict_steers_in_workers(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(agents.parrot, tmp_path, algorithm=Shouting(), max_epochs=1).train(loud_tasks(20))
    assert (result.baseline, result.final) == (0.0, 1.0)


def test_set_up_and_tear_down_run_in_the_worker_also_after_a_rollout_that_hung(
    tmp_path: Path, look_ups: Callable[[], list[str]]
) -> None:
    agent = wrap_agent(agents.reader, set_up=agents.fill, tear_down=agents.empty)
    made = trainer(agent, tmp_path, reward=lambda task, trajectory: 1.0, timeout_seconds=2, num_workers=1)
    done = made.evaluate(["one", "two", "hang"]).trajectories
    assert [(t.status, (t.output or {}).get("read")) for t in done] == [
        ("succeeded", {"task": "one"}),
        ("succeeded", {"task": "two"}),
        ("timeout", None),
    ]
    first, second, after = look_ups()
    assert int(first) == int(second) == done[0].output["pid"] != int(after)
    assert int(after) != os.getpid()


def test_a_set_up_that_fails_in_a_worker_ends_the_run(tmp_path: Path, look_ups: Callable[[], list[str]]) -> None:
    agent = wrap_agent(agents.reader, set_up=agents.fill)
    with pytest.raises(AgentError, match="set_up failed for task .*: ValueError: no table"):
        measured(agent, tmp_path, ["broken", "one"])


# -- tools -------------------------------------------------------------------------------------------------------------


def test_a_recorded_tool_runs_once_for_all_workers(server: FakeOpenAI, look_ups: Callable[[], list[str]]) -> None:
    tools = ToolModes({"look_up": ToolMode("record")}, Tape())
    agent = wrap_agent(agents.user_of_tools, tools={"look_up": "record"})
    assert in_workers(agent, [scope(tools=tools) for _ in range(3)]) == ["WORD"] * 3
    assert look_ups() == ["word"]
    assert tools.tape.get("look_up", {"word": "word"}) == "WORD"


def test_an_async_tool_that_runs_already_is_waited_for_without_a_standstill(look_ups: Callable[[], list[str]]) -> None:
    tools = ToolModes({"look_up": ToolMode("record")}, Tape())
    agent = wrap_agent(agents.async_user_of_tools, tools={"look_up": "record"})
    assert in_workers(agent, [scope(tools=tools) for _ in range(2)]) == [["WORD", "WORD"]] * 2
    assert look_ups() == ["word"]


def test_a_stubbed_tool_does_not_run_in_a_worker(server: FakeOpenAI, look_ups: Callable[[], list[str]]) -> None:
    agent = wrap_agent(agents.user_of_tools, tools={"look_up": {"mode": "stub", "returns": "stubbed"}})
    each = scope(tools=ToolModes(agent.tool_modes))
    assert in_workers(agent, [each]) == ["stubbed"]
    assert look_ups() == []
    assert each.recorder is not None and [seen.kind for seen in each.recorder.steps()] == ["model", "tool"]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_or_hangs_is_a_rollout_with_an_error_and_the_run_goes_on(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    words = "one two raise leave exit segfault kill spin hold sleep three".split()
    done = measured(agents.failing, tmp_path, words, timeout_seconds=2)
    seen = {trajectory.input: (trajectory.status, trajectory.error or "") for trajectory in done.trajectories}
    assert [word for word in words if seen[word][0] == "succeeded"] == ["one", "two", "three"]
    assert [word for word in words if seen[word][0] == "timeout"] == ["spin", "hold", "sleep"]
    assert "ValueError: wrong (at " in seen["raise"][1]
    assert "SystemExit: 4" in seen["leave"][1]
    assert seen["exit"][1].endswith("ended by itself, with exit status 7")
    assert "was ended by signal SIGSEGV" in seen["segfault"][1]
    assert "was ended by signal SIGKILL. Was there too little memory?" in seen["kill"][1]
    assert done.scores == {t.task: 1.0 if t.status == "succeeded" else 0.0 for t in done.trajectories}


def test_a_call_under_way_at_the_time_out_is_on_record(server: FakeOpenAI, tmp_path: Path) -> None:
    server.next_reply("one")
    server.next_reply("two")
    server.hang(60)
    done = measured(agents.parrot, tmp_path, ["one", "two", "three"], timeout_seconds=1, num_workers=1)
    late = done.trajectories[2]
    assert late.status == "timeout" and len(late.steps) == 1
    assert late.steps[0].is_partial and late.steps[0].call is not None


@pytest.mark.parametrize("agent", [agents.dying_in_a_call, agents.dying_in_a_tool])
def test_what_was_under_way_when_a_worker_died_is_on_record(server: FakeOpenAI, tmp_path: Path, agent: Any) -> None:
    server.next_reply("one")
    server.hang(60)
    done = measured(agent, tmp_path, ["live", "die"], num_workers=1)
    dead = done.trajectories[1]
    assert dead.status == "failed" and "exit status 7" in (dead.error or "") and dead.reward == 0.0
    last = dead.steps[-1]
    assert last.is_partial and last.error is None and last.latency_seconds is None
    if agent is agents.dying_in_a_call:
        assert last.call is not None and last.call.messages[-1]["content"] == "die"
    else:
        assert (last.kind, last.name, last.arguments) == ("tool", "break_down", {"word": "die"})
    assert [step.is_partial for step in done.trajectories[0].steps].count(True) == 0


def test_what_a_hung_agent_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PID_FILE", str(tmp_path / "pids"))
    with pytest.raises(AgentError, match="no answer after 3 s"):
        measured(agents.parent, tmp_path, ["one"], timeout_seconds=3, num_workers=1)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(is_running(pid) for pid in pids))


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from agentlightning import Trainer
from tests.trainer.isolated_agents import parent
if __name__ == "__main__":
    Trainer(parent, isolation="process", num_workers=1, data_dir="data", output_dir="out").evaluate(["{question}"])
"""


@pytest.mark.parametrize("question", ["wait", "hold"])
def test_no_process_is_left_when_the_run_is_killed(tmp_path: Path, question: str) -> None:
    pid_file = tmp_path / "pids"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT), question=question))
    run = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PID_FILE": str(pid_file)})
    until(pid_file.exists)
    pids = [int(pid) for pid in pid_file.read_text().split()]
    assert all(is_running(pid) for pid in pids)
    run.kill()
    run.wait()
    until(lambda: not any(is_running(pid) for pid in pids))


# -- what workers cannot find ------------------------------------------------------------------------------------------


def test_an_agent_that_workers_cannot_find_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no variable of a module, and cannot be pickled") as refused:
        measured(lambda question: question, tmp_path, ["one", "two"])
    assert "isolation: thread" in str(refused.value)
    with pytest.raises(AgentError, match="cannot find set_up or tear_down"):
        measured(wrap_agent(agents.parrot, set_up=lambda: None), tmp_path, ["one", "two"])


@pytest.mark.parametrize("is_piped", [True, False])
def test_an_agent_typed_in_a_notebook_or_at_a_prompt_is_refused_with_what_to_do(tmp_path: Path, is_piped: bool) -> None:
    program = (
        "from agentlightning import Trainer, wrap_agent\n"
        "def typed(question: str) -> str:\n    return question\n"
        "Trainer(wrap_agent(typed), isolation='process', progress=False).evaluate(['one'])\n"
    )
    command = [sys.executable, "-"] if is_piped else [sys.executable, "-c", program]
    given = program if is_piped else ""
    done = subprocess.run(command, input=given, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    said = done.stderr
    assert "cannot find 'typed': it is defined in a notebook, at a prompt or in a program that is no file" in said
    assert "Define it" in said and "at the top of a file" in said and "isolation: thread" in said


def test_an_agent_whose_file_fails_in_a_worker_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moody_agent.py").write_text(
        "import os\nif os.environ.get('MOODY'):\n    raise RuntimeError('not today')\n"
        "def answer(question):\n    return 'x'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import moody_agent  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("MOODY", "1")
    with pytest.raises(AgentError, match="could not load agent 'answer'") as refused:
        measured(moody_agent.answer, tmp_path, ["one", "two"])
    assert "RuntimeError: not today" in str(refused.value)


def test_a_script_that_trains_when_it_is_loaded_is_told_to_guard_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom agentlightning import Trainer\n"
        "def answer(question):\n    return question\n"
        "Trainer(answer, isolation='process', data_dir='data', output_dir='out').evaluate(['one', 'two'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    assert not (tmp_path / "data" / "data").exists()


def test_an_object_is_sent_by_value_when_no_module_holds_it(server: FakeOpenAI, tmp_path: Path) -> None:
    done = measured(agents.Greeter("good "), tmp_path, ["morning", "evening"], reward=lambda task, trajectory: 1.0)
    assert [trajectory.output for trajectory in done.trajectories] == ["good morning", "good evening"]


def test_a_provider_that_cannot_be_reached_is_told_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match="Start the server, or check the base URL"):
        measured(agents.parrot, tmp_path, ["one", "two"])
