"""resume, compare, rate, completion, plugins, JSON lines and exit codes: the command as a user or a program runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.project import agl, write_project
from tests.servers import FakeOpenAI
from tests.trainer.worlds import shouting_model

from agentlightning.rewards.feedback import ratings, read_feedback
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.statistics import latest_runs
from agentlightning.store.trajectories import read_trajectories


def slow_model(body: dict[str, Any]) -> str:
    time.sleep(0.05)
    return shouting_model(body)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


@pytest.fixture
def url() -> Iterator[str]:
    with FakeOpenAI(shouting_model) as server:
        yield server.base_url


def from_store(folder: Path, read: Any) -> Any:
    async def work() -> Any:
        store = open_store(folder / "trajectory_data")
        try:
            return await read(store)
        finally:
            await store.close()

    return asyncio.run(work())


def run_of(folder: Path) -> str:
    return list(from_store(folder, latest_runs))[-1]


# -- help and lazy imports ---------------------------------------------------------------------------------------


WITHOUT_STORE = [
    "train",
    "eval",
    "inspect",
    "compare",
    "init",
    "serve",
    "gateway",
    "doctor",
    "demo",
    "plugins",
    "resume",
    "diff",
    "export",
    "import",
]


@pytest.mark.parametrize("arguments", [["--help"], ["completion", "zsh"], *([name, "-h"] for name in WITHOUT_STORE)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom agentlightning.cli.main import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split("LOADED")[1].split())
    heavy = {"pydantic", "httpx", "rich", "torch", "openai", "starlette", "numpy", "sqlite3"}
    assert not heavy & loaded
    assert len(loaded) < 160


# -- resume ------------------------------------------------------------------------------------------------------


def test_resume_carries_on_a_killed_run_from_the_configuration_kept_with_it(project: Path) -> None:
    with FakeOpenAI(slow_model) as server:
        env = {**os.environ, "WORLD_URL": server.base_url}
        command = [sys.executable, "-c", "from agentlightning.cli.main import main; main()"]
        running = subprocess.Popen(
            [*command, "train", "-c", "config.yaml", "trainer.max_in_flight=2"], cwd=project, env=env,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if "the original scores" in line:
                break
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stderr.close()
        num_before = len(server.requests)
        moved = project.rename(project.with_name("moved"))
        done = agl(moved, "resume", WORLD_URL=server.base_url)
        num_after = len(server.requests) - num_before
    assert done.returncode == 0, done.stderr
    assert "Improved from 0.00 to 1.00" in done.stderr and "resumed:" in done.stderr
    assert (moved / "optimized_results" / "policy.yaml").is_file()
    assert num_before >= 6 and num_after < 40
    again = agl(moved, "resume", WORLD_URL="")
    assert again.returncode == 2 and "there is no unfinished run in ./trajectory_data" in again.stderr
    done = agl(moved, "resume", run_of(moved))
    assert done.returncode == 2 and "is finished already" in done.stderr
    assert "Did you mean" in agl(moved, "resume", run_of(moved)[:-1] + "x").stderr


def test_a_run_started_from_python_says_where_to_carry_it_on(tmp_path: Path) -> None:
    code = (
        "from agentlightning import Trainer, wrap_agent\n"
        "def agent(q): raise KeyboardInterrupt\n"
        "try: Trainer(wrap_agent(lambda q: 1/0, name='a'), progress=False).train(['x', 'y'])\n"
        "except Exception: pass\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    done = agl(tmp_path, "resume")
    assert done.returncode == 2 and "was started from Python" in done.stderr and "resume='run-" in done.stderr


# -- compare -----------------------------------------------------------------------------------------------------


def test_compare_measures_algorithms_on_the_same_held_out_tasks(project: Path, url: str) -> None:
    (project / "still.py").write_text(
        "from agentlightning import BaseAlgorithm\n\n\nclass Still(BaseAlgorithm):\n    name = 'still'\n\n"
        "    async def train(self, session):\n        return session.policy\n"
    )
    done = agl(project, "compare", "-c", "config.yaml", "-a", "apo,still.py:Still", "--json", WORLD_URL=url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    apo, still = found["contenders"]
    assert (apo["baseline"], apo["mean"], still["mean"], still["found"]) == (0.0, 1.0, 0.0, False)
    [duel] = found["duels"]
    assert duel["difference"] == 1.0 and duel["interval"]["low"] > 0 and found["num_tasks"] >= 6
    assert any("One run each" in note for note in found["notes"])
    splits = {run: {t.task for t in _rollouts(project, run) if t.split == "test"} for run in (apo["run_id"],)}
    assert len(splits[apo["run_id"]]) == found["num_tasks"]
    for arguments in (["-a", "apo"], ["-a", "apo,apo"], ["-a", "apo,nonesuch"]):
        assert agl(project, "compare", "-c", "config.yaml", *arguments, WORLD_URL=url).returncode == 2


def _rollouts(folder: Path, run: str) -> list[Any]:
    async def read(store: Store) -> list[Any]:
        return [t async for t in read_trajectories(store, {"run": run})]

    return from_store(folder, read)


# -- rate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def rated(project: Path, url: str) -> Path:
    assert agl(project, "train", "-c", "config.yaml", WORLD_URL=url).returncode == 0
    return project


def _feedback(folder: Path) -> list[dict[str, Any]]:
    async def read(store: Store) -> list[dict[str, Any]]:
        return [stored.record.body async for stored in store.read("feedback")]

    return from_store(folder, read)


def test_ratings_choices_and_thumbs_are_kept_as_feedback(rated: Path) -> None:
    run = run_of(rated)
    typed = "9\n5\nclear\n1\n\ns\nq\n"
    done = agl(rated, "rate", run, "--rater", "ann", typed=typed)
    assert done.returncode == 0 and "Type 1, 2, 3, 4, 5, s or q." in done.stdout
    assert "2 ratings by ann kept" in done.stdout
    one, two = _feedback(rated)
    assert (one["kind"], one["value"], one["rater"], one["comment"], one["scale"]) == (
        "rating",
        1.0,
        "ann",
        "clear",
        [1, 5],
    )
    assert (two["value"], two["comment"]) == (0.0, "")
    assert {rating.value for rating in ratings(read_feedback(_feedback(rated))).values()} == {0.0, 1.0}

    assert agl(rated, "rate", run, "--rater", "bo", "--thumbs", "--limit", "1", typed="+\n\n").returncode == 0
    done = agl(rated, "rate", run, "--pairs", "--rater", "ann", typed="a\nlouder\n")
    assert "1 choices by ann kept" in done.stdout
    thumb, choice = _feedback(rated)[2:]
    assert (thumb["value"], thumb["scale"]) == (1.0, [False, True])
    assert choice["kind"] == "choice" and choice["better"] != choice["worse"] and choice["comment"] == "louder"
    rollouts = {t.id: t for t in _rollouts(rated, run)}
    assert rollouts[choice["better"]].task == rollouts[choice["worse"]].task
    given = [reward for t in rollouts.values() for reward in t.rewards if reward.source == "human"]
    assert sorted(reward.value for reward in given) == [0.0, 1.0, 1.0]
    assert agl(rated, "stats", run).returncode == 0 and agl(rated, "export", "out.jsonl").returncode == 0


def test_what_was_rated_is_not_asked_again_and_nothing_to_rate_is_an_error(rated: Path) -> None:
    run = run_of(rated)
    agl(rated, "rate", run, "--rater", "ann", "--limit", "2", typed="3\n\n4\n\n")
    first = {body["rollout"] for body in _feedback(rated)}
    agl(rated, "rate", run, "--rater", "ann", "--limit", "2", typed="3\n\n4\n\n")
    assert len({body["rollout"] for body in _feedback(rated)} - first) == 2
    done = agl(rated, "rate", "run-nope", typed="")
    assert done.returncode == 2 and "no rollout of run run-nope to rate" in done.stderr


# -- JSON lines, exit codes, completion, plugins -----------------------------------------------------------------


def test_json_lines_are_all_that_stands_on_standard_output(project: Path, url: str) -> None:
    done = agl(project, "train", "-c", "config.yaml", "--json", WORLD_URL=url)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["verdict"] == "improved"
    measured = agl(project, "eval", "-c", "config.yaml", "--json", WORLD_URL=url)
    last = json.loads(measured.stdout.splitlines()[-1])
    assert (last["event"], last["num_tasks"]) == ("measured", 20)
    assert all(json.loads(line)["name"] for line in agl(project, "plugins", "--json").stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "-c", "config.yaml", "budget.calls=2"], 3),
        (["train", "-c", "config.yaml", "budget.calls=4"], 3),
        (["train", "-c", "nonesuch.yaml"], 2),
        (["train", "-c", "config.yaml", "trackers=wandb"], 2),
        (["train", "-c", "config.yaml", "agent.path=failing.py"], 1),
        (["trian"], 2),
        (["--version"], 0),
    ],
)
def test_the_exit_code_says_what_kind_of_end_it_was(project: Path, url: str, arguments: list[str], code: int) -> None:
    (project / "failing.py").write_text("def agent(question):\n    raise ValueError('boom')\n")
    done = agl(project, *arguments, WORLD_URL=url)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_exits_with_130_and_says_how_to_carry_on(project: Path) -> None:
    with FakeOpenAI(slow_model) as server:
        running = subprocess.Popen(
            [sys.executable, "-c", "from agentlightning.cli.main import main; main()", "train", "-c", "config.yaml"],
            cwd=project, env={**os.environ, "WORLD_URL": server.base_url}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running.stderr is not None
        for line in running.stderr:
            if "rewards come from" in line:
                break
        time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
        running.stderr.close()
        assert running.wait(30) == 130, said
    assert "agentlightning resume" in said


def test_completion_is_printed_for_both_names_and_completes_commands_and_keys(tmp_path: Path) -> None:
    for shell, mark in (("bash", "complete -o nosort"), ("zsh", "#compdef"), ("fish", "complete --no-files")):
        done = agl(tmp_path, "completion", shell)
        assert done.returncode == 0 and done.stdout.count(mark) == 2 and " agl" in done.stdout

    def completed(words: str, number: int) -> str:
        env = {"_AGENTLIGHTNING_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}
        return agl(tmp_path, **env).stdout

    assert "plain,compare" in completed("agentlightning co", 1)
    assert "plain,trainer.max_epochs=" in completed("agentlightning train -c x trainer.max", 4)


def test_plugins_names_kinds_and_packages() -> None:
    rows = [json.loads(line) for line in agl(Path.cwd(), "plugins", "--json").stdout.splitlines()]
    assert {row["kind"] for row in rows} >= {"algorithm", "reward", "adapter", "store", "tracker", "engine"}
    assert {"kind": "reward", "name": "judge"}.items() <= next(r for r in rows if r["name"] == "judge").items()
    assert all(row["package"] for row in rows)


def test_doctor_checks_what_a_project_needs(project: Path, url: str) -> None:
    config = project / "config.yaml"
    judge, optimizer = "{model: j, api_key_env: NO_SUCH_KEY_9}", "{model: llama, dialect: ollama}"
    config.write_text(f"{config.read_text()}models: {{judge: {judge}, optimizer: {optimizer}}}\n")
    done = agl(project, "doctor", "-c", "config.yaml", "--json", WORLD_URL=url, OLLAMA_HOST=url.removesuffix("/v1"))
    found = {row["what"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and found["models.judge"]["mark"] == "✗"
    assert "NO_SUCH_KEY_9" in found["models.judge"]["found"] and found["models.optimizer"]["mark"] == "✓"
    assert found["agent"]["found"] == "parrot (function)" and found["tasks"]["found"] == "20 to learn from"
    assert found["GPUs"]["mark"] in "✓–" and found["→ improve prompts"]["mark"] in "✓–"
