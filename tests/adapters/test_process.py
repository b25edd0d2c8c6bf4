"""Programs as agents: one process a rollout, captured and steered through its environment, ended when time is up."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.engines import Answering, ByteEngine, tokens_of
from tests.servers import FakeOpenAI
from tests.trainer.worlds import PROMPT, loud_tasks, shouting_model

from agentlightning import Policy, PromptSite, Trainer, emit_reward, wrap_agent
from agentlightning.adapters.process import ProcessAdapter, Program, ProgramError
from agentlightning.data.call import Reply
from agentlightning.errors import AgentError, RolloutStopped
from agentlightning.gateway.handover import LoopbackHandover
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install
from agentlightning.trainer.config import load_config
from agentlightning.trainer.execution import AgentThreads, RolloutTimeout
from agentlightning.trainer.resolve import load_agent

PYTHON = [sys.executable, "-I"]
ASKING = f"""
import json, os, sys, urllib.request
question = sys.stdin.read() or sys.argv[1]
messages = [{{"role": "system", "content": "{PROMPT}"}}, {{"role": "user", "content": question}}]
body = {{"model": "m", "messages": messages}}
headers = {{"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
answer = urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))
print(json.load(answer)["choices"][0]["message"]["content"])
"""
"""An agent that knows nothing of us, nor of any SDK."""
NODE = f"""
const messages = [{{role: 'system', content: '{PROMPT}'}}, {{role: 'user', content: process.argv[2]}}];
const body = {{model: 'm', messages}};
fetch(process.env.OPENAI_BASE_URL + '/chat/completions', {{
  method: 'POST',
  headers: {{'authorization': 'Bearer ' + process.env.OPENAI_API_KEY, 'content-type': 'application/json'}},
  body: JSON.stringify(body),
}}).then(answer => answer.json()).then(answer => console.log(answer.choices[0].message.content));
"""
SITE = PromptSite(id="s1", agent="agent", kind="system", template=PROMPT)
POLICY = Policy().with_prompt(SITE, "Shout.")


def script(folder: Path, text: str, name: str = "agent.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def python(folder: Path, text: str, *arguments: str, **options: Any) -> Program:
    return Program((*PYTHON, script(folder, text), *arguments), **options)


def run(program: Any, task_input: Any = "hello", scope: Scope | None = None) -> Any:
    adapter = ProcessAdapter(program)
    with entered(scope):
        return asyncio.run(adapter.invoke(task_input))


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    def point(server: FakeOpenAI) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789")

    return point


@pytest.mark.parametrize("language", ["python", *(["node"] if shutil.which("node") else [])])
def test_a_program_is_captured_and_steered_and_never_sees_the_key(tmp_path: Path, at: Any, language: str) -> None:
    made = python(tmp_path, ASKING)
    if language == "node":
        made = Program(("node", script(tmp_path, NODE, "agent.js"), "{input}"))
    scope = Scope("agent", policy=POLICY, recorder=Recorder())
    with FakeOpenAI(shouting_model) as server:
        at(server)
        assert run(made, "hello", scope) == "LOUD HELLO"
    assert scope.recorder is not None
    [step] = scope.recorder.steps()
    assert step.steered_sites == ["s1"] and step.reply is not None and step.reply.text == "LOUD HELLO"
    assert step.endpoint == server.base_url + "/chat/completions"
    assert server.requests[0].headers["authorization"] == "Bearer sk-real-0123456789"


def test_outside_a_rollout_it_runs_as_it_always_did(tmp_path: Path, at: Any) -> None:
    with FakeOpenAI("from the provider") as server:
        at(server)
        agent = wrap_agent(python(tmp_path, ASKING), "process")
        assert agent("hello") == "from the provider"
        assert agent.agent_id == "agent"
    assert server.requests[0].json["messages"][1]["content"] == "hello"


def test_an_optimised_program_is_steered_without_a_trainer(tmp_path: Path, at: Any) -> None:
    with FakeOpenAI(shouting_model) as server:
        at(server)
        assert wrap_agent(python(tmp_path, ASKING), "process").use(POLICY)("hello") == "LOUD HELLO"


def test_an_engine_answers_a_program_and_its_ids_are_recorded(tmp_path: Path) -> None:
    handover, reply = LoopbackHandover(), Reply({"role": "assistant", "content": "trained"}, "stop")
    try:
        with ByteEngine(reply) as engine:
            scope = Scope("agent", recorder=Recorder(), responder=Answering(engine), handover=handover)
            assert run(python(tmp_path, ASKING), "hello", scope) == "trained"
    finally:
        handover.close()
    assert scope.recorder is not None
    assert [step.completion_ids for step in scope.recorder.steps()] == [tokens_of(reply)]


@pytest.mark.parametrize(
    ("arguments", "task_input", "expected"),
    [
        ((), "hello", "[] <hello>"),
        ((), {"a": 1, "b": "x"}, '[] <{"a":1,"b":"x"}>'),
        (("ask={input}",), "it's {x}", '["ask=it\'s {x}"] <>'),
        (("{a}", "{b}", "{c}"), {"a": 1, "b": "x y"}, "['1', 'x y', '{c}'] <>"),
    ],
)
def test_the_input_comes_on_stdin_or_where_the_command_wants_it(
    tmp_path: Path, arguments: tuple[str, ...], task_input: Any, expected: str
) -> None:
    echo = "import sys; print(sys.argv[1:], f'<{sys.stdin.read()}>')"
    assert run(python(tmp_path, echo, *arguments), task_input) == expected


@pytest.mark.parametrize(
    ("printed", "output", "expected"),
    [
        ('log line\\n{"answer": 42}', "auto", {"answer": 42}),
        ("one\\ntwo\\n", "auto", "one\ntwo"),
        ("[1, 2]", "auto", "[1, 2]"),
        ('{\\n "a": 1\\n}', "auto", {"a": 1}),
        ('log\\n{"a": 1}', "text", 'log\n{"a": 1}'),
        ("log\\nlast \\n\\n", "last_line", "last"),
        ("[1, 2]", "json", [1, 2]),
        ("grüße", "auto", "grüße"),
        ("", "auto", ""),
    ],
)
def test_the_answer_is_what_it_printed(tmp_path: Path, printed: str, output: Any, expected: Any) -> None:
    text = f"import sys; sys.stdout.buffer.write('{printed}'.encode())"
    assert run(python(tmp_path, text, output=output)) == expected


def test_a_program_that_fails_is_told_with_what_it_complained_of(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="agent ended with exit status 3: .*no such colour"):
        run(python(tmp_path, "import sys; print('x'); print('no such colour', file=sys.stderr); sys.exit(3)"))
    with pytest.raises(ProgramError, match="signal SIGKILL"):
        run(python(tmp_path, "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(ProgramError, match="was to print JSON, and printed 'nonsense'"):
        run(python(tmp_path, "print('nonsense')", output="json"))
    with pytest.raises(ProgramError, match="cannot be started"):
        run(Program(("./gone",), str(tmp_path)))


def test_what_is_no_program_is_refused() -> None:
    with pytest.raises(AgentError, match="there is no program 'nodee'"):
        wrap_agent("nodee agent.js", "process")
    with pytest.raises(AgentError, match="is no command"):
        wrap_agent(42, "process")
    with pytest.raises(AgentError, match="needs a command"):
        wrap_agent("", "process")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_time_that_is_up_ends_the_program_and_all_it_started(tmp_path: Path, is_stubborn: bool) -> None:
    pids = tmp_path / "pids"
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if is_stubborn else ""
    text = f"""
import os, signal, subprocess, sys, time
{ignore}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open({str(pids)!r} + "~", "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
os.rename({str(pids)!r} + "~", {str(pids)!r})
time.sleep(60)
"""

    async def main() -> None:
        running = asyncio.ensure_future(ProcessAdapter(python(tmp_path, text)).invoke("x"))
        while not pids.exists():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    while any(alive(int(pid)) for pid in pids.read_text().split()):  # the system takes its time; the test's is limited
        time.sleep(0.01)


def test_a_rollout_that_runs_out_of_time_leaves_no_program_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    adapter, threads = ProcessAdapter(python(tmp_path, text)), AgentThreads()
    try:
        with pytest.raises(RolloutTimeout):
            asyncio.run(threads.run(lambda: adapter.invoke("x"), Scope("agent", recorder=Recorder()), 3))
        while alive(int(pids.read_text())):
            time.sleep(0.01)
    finally:
        threads.close()


def test_what_a_program_leaves_running_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    text = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid)
"""
    started = time.monotonic()
    pid = int(run(python(tmp_path, text)))
    assert time.monotonic() - started < 30
    while alive(pid):
        time.sleep(0.01)


def test_a_rollout_that_must_stop_is_stopped_when_its_program_has_ended(tmp_path: Path) -> None:
    def admit() -> None:
        raise RolloutStopped("spent")

    with pytest.raises(RolloutStopped, match="spent"):
        run(python(tmp_path, ASKING), "x", Scope("agent", admit=admit))


def test_rewards_said_by_a_program_reach_its_rollout(tmp_path: Path) -> None:
    text = (
        "import agentlightning as a; a.emit_reward(0.25, 'meh'); a.emit_reward(float('nan'), name='odd'); print('ok')"
    )
    scope = Scope("agent", recorder=Recorder())
    made = Program((sys.executable, script(tmp_path, text)))
    assert run(made, "x", scope) == "ok"
    assert [(r.value, r.reason, r.source) for r in scope.rewards] == [(0.25, "meh", "emitted")]
    assert scope.reward_error is not None and "no finite number" in scope.reward_error


def test_a_reward_nobody_takes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLIGHTNING_REWARD_URL", "http://127.0.0.1:9/reward")
    with pytest.raises(AgentError, match="cannot be reached"):
        emit_reward(1.0)


def test_a_loop_that_is_running_may_call_it_too(tmp_path: Path) -> None:
    agent = wrap_agent(python(tmp_path, "print(input())"), "process")

    async def main() -> Any:
        return agent("hello")

    assert asyncio.run(main()) == "hello"


@pytest.mark.parametrize("is_async", [False, True])
def test_programs_that_a_python_agent_runs_are_captured_and_steered_too(
    tmp_path: Path, at: Any, is_async: bool
) -> None:
    command = [*PYTHON, script(tmp_path, ASKING), "pear"]

    def sync_agent() -> str:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()

    async def async_agent() -> str:
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=pipe)
        return (await process.communicate())[0].decode().strip()

    install()
    scope = Scope("agent", policy=POLICY, recorder=Recorder())
    with FakeOpenAI(shouting_model) as server:
        at(server)
        with entered(scope):
            assert (asyncio.run(async_agent()) if is_async else sync_agent()) == "LOUD PEAR"
        assert sync_agent() == "pear", "outside a rollout nothing is led anywhere"
    scope.close()
    assert scope.recorder is not None and [step.steered_sites for step in scope.recorder.steps()] == [["s1"]]
    assert {seen.headers["authorization"] for seen in server.requests} == {"Bearer sk-real-0123456789"}


def test_a_program_run_with_an_environment_of_its_own_still_reaches_its_own_provider(tmp_path: Path, at: Any) -> None:
    command = [*PYTHON, script(tmp_path, ASKING), "pear"]
    install()
    scope = Scope("agent", recorder=Recorder())
    with FakeOpenAI("one") as one, FakeOpenAI("two") as two, entered(scope):
        at(one)
        env = {"OPENAI_BASE_URL": two.base_url, "OPENAI_API_KEY": "sk-other-987654321"}
        answers = [
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=given, text=True).stdout.strip()
            for given in (None, env)
        ]
    assert answers == ["one", "two"]
    assert two.requests[0].headers["authorization"] == "Bearer sk-other-987654321"
    assert [step.endpoint for step in (scope.recorder or Recorder()).steps()] == [
        f"{server.base_url}/chat/completions" for server in (one, two)
    ]


def test_a_config_names_a_program_by_its_command(tmp_path: Path) -> None:
    script(tmp_path, "print(input()[::-1])")
    config = tmp_path / "al.yaml"
    config.write_text(f"agent: {{type: process, path: '{sys.executable} agent.py'}}\n")
    loaded = load_agent(load_config(config))
    assert loaded.agent("hello") == "olleh" and loaded.agent.agent_id == "agent"
    config.write_text("agent: {type: process, path: ./agent.exe}\n")
    with pytest.raises(AgentError, match="no program './agent.exe'"):
        load_agent(load_config(config))


def test_a_trainer_improves_a_program_found_by_its_command(tmp_path: Path, at: Any) -> None:
    script(tmp_path, ASKING)
    settings: dict[str, Any] = {"max_epochs": 1, "data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    with FakeOpenAI(shouting_model) as server:
        at(server)
        agent = wrap_agent([*PYTHON, str(tmp_path / "agent.py")], "process")
        trainer = Trainer(agent, progress=False, retries=0, max_in_flight=4, **settings)
        result = trainer.train(loud_tasks(12))
        assert result.baseline == 0.0 and result.final == 1.0
        better = trainer.load_optimized_agent()
        assert better("pear") == "LOUD PEAR"
    assert os.environ["OPENAI_BASE_URL"] == server.base_url
