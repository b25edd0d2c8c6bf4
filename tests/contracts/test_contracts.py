"""The checks we give to plugins' authors: our own parts pass them, and each broken promise is found and named."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cli.project import agl

from agentlightning import BaseAlgorithm
from agentlightning.adapters.base import Adapter
from agentlightning.algorithms.apo.algorithm import APO
from agentlightning.contracts import ContractBroken, check_adapter, check_algorithm, check_reward, check_store
from agentlightning.rewards import REWARDS
from agentlightning.store.open import open_store
from agentlightning.store.sqlite import SQLiteStore

# -- ours ----------------------------------------------------------------------------------------------------------


def test_apo_keeps_the_contract_of_algorithms() -> None:
    check_algorithm(lambda: APO(rounds=1, num_candidates=1, minibatch_size=4, delete_lines=False))


@pytest.mark.parametrize("name", ["expected_match", "exact_match", "contains", "fuzzy_match", "numeric_match",
                                  "json_valid", "task_success_rate"])  # fmt: skip
def test_our_rewards_keep_the_contract(name: str) -> None:
    check_reward(REWARDS.load(name))


@pytest.mark.parametrize("address", ["{}/runs", "segments:///{}/segments"])
def test_our_stores_keep_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    check_store(lambda: open_store(address.format(tmp_path)))


class Box:
    def run(self, text: str) -> str:
        return f"boxed {text}"


class BoxAdapter(Adapter):
    name = "box"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return isinstance(agent, Box)

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        return None if cls.recognises(agent) else f"a {type(agent).__name__} is no Box"

    def label(self) -> str:
        return "box"

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.agent.run(*args, **kwargs)


def test_an_adapter_of_ones_own_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "box_plugin", sys.modules[__name__])
    assert check_adapter(BoxAdapter, Box(), "a", path="box_plugin:BoxAdapter") == "boxed a"


# -- broken promises -----------------------------------------------------------------------------------------------


class Random(BaseAlgorithm):
    name = "random"

    async def train(self, session: Any) -> Any:
        site = session.sites[0]
        candidate = session.policy.with_prompt(site, f"{session.policy.text_at(site)} {random.random()}")
        await session.evaluate(candidate)
        await session.decide(candidate, "rejected", parent=session.policy, reason="by chance")
        return session.policy


class Greedy(BaseAlgorithm):
    name = "greedy"

    async def train(self, session: Any) -> Any:
        await session.rollout(session.validation_tasks)
        return "not a policy"


class Silent(BaseAlgorithm):
    name = "silent"

    async def train(self, session: Any) -> Any:
        await session.decide(session.policy, "rejected", parent=session.policy, reason=" ")
        return session.policy


class Absent(BaseAlgorithm):
    name = "absent"


@pytest.mark.parametrize(
    ("make", "promise"),
    [
        (Random, "The same seed and tasks decide the same"),
        (Silent, "Every decision says why"),
        (Absent, "implements train"),
        (lambda: "apo", "is a subclass of agentlightning.BaseAlgorithm"),
    ],
)
def test_an_algorithm_that_breaks_a_promise_is_told_which(make: Any, promise: str) -> None:
    with pytest.raises(ContractBroken, match=promise):
        check_algorithm(make)


def test_an_algorithm_that_returns_no_policy_is_told_so() -> None:
    with pytest.raises(Exception, match="train\\(\\) must return a Policy"):
        check_algorithm(Greedy)


COUNT = itertools.count()


@pytest.mark.parametrize(
    ("function", "promise"),
    [
        (lambda task, trajectory: next(COUNT), "says the same of the same rollout"),
        (lambda task, trajectory: trajectory.output.strip() == task.expected, "judges every rollout or returns None"),
        (lambda task, trajectory: float("nan"), "judges every rollout or returns None"),
        (lambda task, trajectory: "good", "judges every rollout or returns None"),
    ],
)
def test_a_reward_that_breaks_a_promise_is_told_which(function: Any, promise: str) -> None:
    with pytest.raises(ContractBroken, match=promise):
        check_reward(function)


class Forgetful(SQLiteStore):
    async def append(self, records: Any) -> Any:
        return await super().append(records[:1])


def test_a_store_that_loses_records_is_found(tmp_path: Path) -> None:
    with pytest.raises(ContractBroken, match="Records come back as they were written"):
        check_store(lambda: Forgetful(str(tmp_path / "runs")))


class Grabby(BoxAdapter):
    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return True


def test_an_adapter_that_takes_strangers_is_found() -> None:
    with pytest.raises(ContractBroken, match="recognises its own kind only"):
        check_adapter(Grabby, Box(), "a", path="x:Grabby")


# -- the package that `init --plugin` writes -----------------------------------------------------------------------


def test_a_new_plugin_passes_its_own_test_and_is_found_by_name(tmp_path: Path) -> None:
    done = agl(tmp_path, "init", "--plugin", "my-idea")
    assert done.returncode == 0 and "pytest" in done.stdout
    plugin = tmp_path / "my-idea"
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=plugin, text=True, capture_output=True,
        env={**_env(plugin / "src")}, timeout=110,
    )  # fmt: skip
    assert tested.returncode == 0 and "3 passed" in tested.stdout, tested.stdout + tested.stderr

    metadata = tmp_path / "site" / "my_idea-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-idea\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(_entry_points(plugin / "pyproject.toml"))
    path = f"{plugin / 'src'}:{tmp_path / 'site'}"
    listed = agl(tmp_path, "plugins", "--check", PYTHONPATH=path, COLUMNS="200")
    assert listed.returncode == 0 and "my-idea 0.1.0" in listed.stdout and "my_idea.algorithm:MyIdea" in listed.stdout
    (plugin / "src" / "my_idea" / "reward.py").write_text("import nowhere_to_be_found\n")
    broken = agl(tmp_path, "plugins", "--check", PYTHONPATH=path, COLUMNS="200")
    assert broken.returncode == 1 and "no: ModuleNotFoundError" in broken.stdout


def _env(source: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(source)}


def _entry_points(pyproject: Path) -> str:
    import tomllib

    groups = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in groups.items()
    )


@pytest.mark.parametrize("name", ["My Idea", "../x", "-a", "a--b"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    done = agl(tmp_path, "init", f"--plugin={name}")
    assert done.returncode == 2 and "like my-idea" in done.stderr and not list(tmp_path.iterdir())
