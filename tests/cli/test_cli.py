"""The command line end to end: a config file in, results out, and one message for what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import PROMPT, loud_tasks, shouting_model

from agentlightning.store.open import open_store

AGENT = f"""
import os
import httpx

URL = os.environ["WORLD_URL"]
CLIENT = httpx.Client()

def parrot(question):
    messages = [{{"role": "system", "content": {PROMPT!r}}}, {{"role": "user", "content": question}}]
    reply = CLIENT.post(URL + "/chat/completions", json={{"model": "m", "messages": messages}}, timeout=10)
    return reply.json()["choices"][0]["message"]["content"]
"""


def agl(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from agentlightning.cli.main import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "my_agent.py").write_text(AGENT)
    rows = [f"{task.input},{task.expected}" for task in loud_tasks(20)]
    (tmp_path / "tasks.csv").write_text("input,expected\n" + "\n".join(rows))
    (tmp_path / "config.yaml").write_text(
        "agent: {path: ./my_agent.py}\nalgorithm: apo\ntrainer: {max_epochs: 1}\ntasks: tasks.csv\n"
    )
    return tmp_path


@pytest.fixture
def url() -> Iterator[str]:
    with FakeOpenAI(shouting_model) as server:
        yield server.base_url


def test_a_config_file_trains_and_everything_can_be_looked_at(project: Path, url: str) -> None:
    done = agl(project, "train", "--config", "config.yaml", "trainer.seed=3", WORLD_URL=url)
    assert done.returncode == 0, done.stderr
    assert "Improved from 0.00 to 1.00" in done.stderr
    assert (project / "optimized_results" / "policy.yaml").is_file()

    listed = agl(project, "ls", COLUMNS="200")
    run_id = next(word for word in listed.stdout.split() if word.startswith("run-"))
    assert "improved" in listed.stdout and "parrot" in listed.stdout

    shown = agl(project, "show", run_id, COLUMNS="250")
    rollout_id = next(word for word in shown.stdout.split() if word.startswith("r-"))
    assert rollout_id in agl(project, "show", rollout_id).stdout

    assert "trajectories written" in agl(project, "export", "out.jsonl").stdout
    imported = agl(project, "import", "out.jsonl", "--store", "./elsewhere")
    assert imported.returncode == 0 and " 0 were there already" in imported.stdout
    assert agl(project, "export", "again.jsonl", "--store", "./elsewhere").returncode == 0
    assert sorted((project / "again.jsonl").read_text().splitlines()) == sorted(
        (project / "out.jsonl").read_text().splitlines()
    )


def test_init_inspect_eval_and_diff_lead_from_an_agent_to_its_change(project: Path, url: str) -> None:
    written = agl(project, "init", "--agent", "my_agent.py", "--tasks", "tasks.csv", WORLD_URL=url)
    assert written.returncode == 0 and "20 tasks" in written.stdout
    assert agl(project, "init", "--agent", "my_agent.py", "--tasks", "tasks.csv", WORLD_URL=url).returncode == 2

    seen = agl(project, "inspect", "-c", "al_config.yaml", WORLD_URL=url)
    assert PROMPT in seen.stdout and "20 calls in 20 rollouts; 0 failed" in seen.stdout
    assert "parrot (function)\n  parrot" in seen.stdout

    before = agl(project, "eval", "-c", "al_config.yaml", WORLD_URL=url)
    assert "original: mean reward 0.00 on 20 tasks" in before.stdout
    assert agl(project, "train", "-c", "al_config.yaml", WORLD_URL=url).returncode == 0
    after = agl(project, "eval", "-c", "al_config.yaml", "--policy", "optimized_results", WORLD_URL=url)
    assert "mean reward 1.00 on 8 tasks" in after.stdout and "12 tasks the policy was learned from" in after.stderr
    everything = agl(project, "eval", "-c", "al_config.yaml", "--policy", "optimized_results", "--all", WORLD_URL=url)
    assert "mean reward 1.00 on 20 tasks" in everything.stdout

    assert f"+{PROMPT} Always shout." in agl(project, "diff", "optimized_results").stdout
    assert "no difference" in agl(project, "diff", "optimized_results", "optimized_results").stdout


def test_inspect_wants_only_an_agent_and_tasks(project: Path, url: str) -> None:
    seen = agl(project, "inspect", "./my_agent.py", "--tasks", "tasks.csv", WORLD_URL=url)
    assert seen.returncode == 0 and "parrot, run as function" in seen.stdout and PROMPT in seen.stdout
    by_module = agl(project, "inspect", "my_agent:parrot", "--tasks", "tasks.csv", "--json", WORLD_URL=url)
    told = json.loads(by_module.stdout)
    assert [site["template"] for site in told["sites"]] == [PROMPT]
    assert (told["framework"], told["health"]["num_calls"], told["health"]["warnings"]) == ("function", 20, [])
    assert agl(project, "inspect", WORLD_URL=url).returncode == 2


def test_inspect_tells_of_rollouts_that_failed(project: Path, url: str) -> None:
    broken = (project / "my_agent.py").read_text() + "    raise ValueError('never')\n"
    (project / "shy.py").write_text(broken.replace("return reply", "if question < 'm': return reply"))
    seen = agl(project, "inspect", "shy.py", "--tasks", "tasks.csv", WORLD_URL=url, COLUMNS="200")
    assert "rollouts failed: ValueError: never" in seen.stdout


def test_doctor_names_what_does_not_answer(tmp_path: Path, url: str) -> None:
    assert agl(tmp_path, "doctor", OPENAI_BASE_URL=url).returncode == 0
    wrong = agl(tmp_path, "doctor", OPENAI_BASE_URL="http://127.0.0.1:9/v1", COLUMNS="200")
    assert wrong.returncode == 1 and "nothing answers at 127.0.0.1:9" in wrong.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("max_epochs", "max_epoch"), "config.yaml line 3: unknown key 'max_epoch' in trainer"),
        (("max_epochs: 1", "max_epochs: three"), "must be a whole number"),
        (("./my_agent.py", "./my_agnt.py"), "there is no file './my_agnt.py'"),
        (("algorithm: apo", "algorithm: aop"), "unknown algorithm 'aop'. Did you mean 'apo'?"),
        (("tasks.csv", "task.csv"), "task.csv"),
        (("./my_agent.py", "./my_agent.py:parot"), "Did you mean 'parrot'?"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(project: Path, url: str, change: tuple[str, str], says: str) -> None:
    file = project / "config.yaml"
    file.write_text(file.read_text().replace(*change))
    done = agl(project, "train", "-c", "config.yaml", WORLD_URL=url)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr


def test_an_agent_file_that_does_not_import_says_so(project: Path) -> None:
    (project / "my_agent.py").write_text("import nowhere_to_be_found\n")
    done = agl(project, "train", "-c", "config.yaml")
    assert done.returncode == 1
    assert "cannot be imported: ModuleNotFoundError" in done.stderr and "Traceback" not in done.stderr


def test_several_possible_agents_are_listed(project: Path, url: str) -> None:
    with (project / "my_agent.py").open("a") as file:
        file.write("\ndef owl(question): return question\n")
    done = agl(project, "train", "-c", "config.yaml", WORLD_URL=url)
    assert done.returncode == 1
    assert "my_agent.py:parrot" in done.stderr and "my_agent.py:owl" in done.stderr


def test_help_names_every_command_and_a_wrong_one_is_refused() -> None:
    shown = agl(Path.cwd(), "--help")
    assert shown.returncode == 0 and all(name in shown.stdout for name in ("train", "demo", "ls", "show", "export"))
    assert agl(Path.cwd(), "trian").returncode == 2


def test_plugins_lists_where_things_come_from() -> None:
    shown = agl(Path.cwd(), "plugins", COLUMNS="200")
    assert "apo" in shown.stdout and "agentlightning.algorithms.apo" in shown.stdout and "sqlite" in shown.stdout


def test_something_unknown_to_show_is_a_clear_error(tmp_path: Path) -> None:
    assert "there is no store at ./trajectory_data" in agl(tmp_path, "show", "run-nope").stderr
    asyncio.run(open_store(tmp_path / "trajectory_data").close())
    done = agl(tmp_path, "show", "run-nope")
    assert done.returncode == 2 and "agentlightning ls" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "no command 'trian'. Did you mean 'train'?"),
        (["train"], "no configuration file 'al_config.yaml'."),
        (["train", "config.yaml"], "For a configuration file: --config config.yaml"),
        (["compare", "-c", "config.yaml", "-a", "apo,aop"], "unknown algorithm 'aop'. Did you mean 'apo'?"),
        (["gateway", "--port", "99999"], "99999 is not in the range"),
        (["eval", "-c", "config.yaml", "--policy", "nowhere"], "error: there is no policy at nowhere"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(project: Path, arguments: list[str], says: str) -> None:
    done = agl(project, *arguments, WORLD_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert "preflight" not in done.stderr and "Traceback" not in done.stderr


def test_the_package_is_a_command_too_and_h_asks_for_help() -> None:
    command = [sys.executable, "-m", "agentlightning", "-h"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Make an agent better" in done.stdout


def test_what_has_square_brackets_is_shown_as_it_is(project: Path) -> None:
    (project / "my_agent.py").write_text("def parrot(question):\n    raise ValueError('[/INST] [train]')\n")
    agl(project, "eval", "-c", "config.yaml", WORLD_URL="")
    run = agl(project, "ls", COLUMNS="200").stdout.split("│")[1].strip()
    shown = agl(project, "show", run, COLUMNS="250")
    assert shown.returncode == 0 and "[/INST] [train]" in shown.stdout, shown.stderr


def test_the_configuration_that_init_writes_is_the_one_that_is_meant(project: Path, url: str) -> None:
    agl(project, "init", "--agent", "my_agent.py", "--tasks", "tasks.csv", WORLD_URL=url)
    seen = agl(project, "inspect", WORLD_URL=url)
    assert seen.returncode == 0 and PROMPT in seen.stdout, seen.stderr
    assert agl(project, "eval", WORLD_URL=url).returncode == 0
