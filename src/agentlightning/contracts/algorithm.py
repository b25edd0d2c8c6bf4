"""What every algorithm must keep, tried in real runs of a small agent against a simulated model on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from agentlightning.adapters.wrap import WrappedAgent, wrap_agent
from agentlightning.algorithms.base import BaseAlgorithm
from agentlightning.contracts.broken import expect
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.tasks import make_tasks
from agentlightning.errors import BudgetExhausted, ConfigError
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.result import TrainingResult
from agentlightning.trainer.trainer import Trainer

RULES = "Sort the ticket into one queue: billing, shipping, technical, account, returns, escalation."
CALLS = 150
TIGHT = 70

Make = Callable[[], BaseAlgorithm[Any]]


def check_algorithm(make: Make) -> None:
    """Raises ContractBroken unless the algorithm that `make` makes (anew each time) keeps these promises.

    It gives back a Policy; it learns from training tasks and measures on validation tasks only; the same seed decides
    the same; interrupted and resumed it ends the same; a spent budget ends it with its best, and is kept; an unknown
    setting is refused; an agent without instruction text, and one whose rollouts all fail in between, do not end it.
    About ten seconds. Needs no network.
    """
    _check_kind(make)
    with (
        SimulatedServer() as server,
        tempfile.TemporaryDirectory(prefix="contract-") as folder,
        httpx.Client(base_url=server.base_url, timeout=30) as client,
    ):
        bench = _Bench(make, client, Path(folder))
        whole = bench.run("whole")
        _check_result(whole)
        again = bench.run("again")
        expect(_said(again) == _said(whole), "The same seed and tasks decide the same.", _difference(whole, again))
        _check_resumed(bench, whole)
        tight = bench.run("tight", calls=TIGHT)
        expect(tight.cost.calls <= TIGHT, "A budget is kept.", f"{tight.cost.calls} calls with a cap of {TIGHT}")
        _check_result(bench.run("no instruction", rules=""))


def _check_kind(make: Make) -> None:
    given: Any = make
    algorithm, other = given(), given()
    expect(
        isinstance(algorithm, BaseAlgorithm),
        "An algorithm is a subclass of agentlightning.BaseAlgorithm.",
        type(algorithm).__name__,
    )
    expect(algorithm is not other, "`make` makes a new algorithm each time.", "the same object twice")
    kind = type(algorithm)
    expect(
        kind.train is not BaseAlgorithm.train, "An algorithm implements train(session).", f"{kind.__name__} has none"
    )
    try:
        kind(no_such_setting_ever=1)
    except (ConfigError, TypeError):
        return
    expect(False, "An unknown setting is refused.", f"{kind.__name__}(no_such_setting_ever=1) was taken")


class _Watch(Callback):
    """Counts rollouts, and pulls the plug after so many of the algorithm's own."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.num_own = 0
        self.rollouts: list[Trajectory] = []
        self._stop_after = stop_after

    def on_rollout_end(self, trajectory: Trajectory) -> None:
        self.rollouts.append(trajectory)
        self.num_own += trajectory.stage.startswith("1-")
        if self._stop_after is not None and self.num_own >= self._stop_after:
            raise _PluggedOut


class _PluggedOut(Exception):
    pass


class _Bench:
    """The same agent and tasks for every run, each with a store of its own."""

    def __init__(self, make: Make, client: httpx.Client, folder: Path) -> None:
        self.make = make
        self.client = client
        self.folder = folder
        tickets = [task for split in make_tasks().values() for task in split]
        self.tasks = {"train": tickets[:8], "validation": tickets[8:14], "test": tickets[14:20]}

    def run(self, name: str, *, calls: int = CALLS, rules: str = RULES, resume: bool = False, watch: Any = None) -> Any:
        watch = watch or _Watch()
        trainer = Trainer(
            self._agent(rules),
            algorithm=[self.make()],
            max_epochs=1,
            budget={"calls": calls},
            data_dir=str(self.folder / name),
            output_dir=str(self.folder / name / "out"),
            callbacks=[watch],
            progress=False,
        )
        try:
            result = trainer.train(self.tasks, resume=resume)
        except BudgetExhausted as error:
            expect(False, "A spent budget ends an algorithm with its best, not with an error.", str(error))
            raise
        _check_splits(watch.rollouts, self.tasks)
        return result

    def _agent(self, rules: str) -> WrappedAgent:
        def sorter(ticket: str) -> str:
            messages = [{"role": "user", "content": ticket}]
            if rules:
                messages = [{"role": "system", "content": rules}, *messages]
            body = {"model": "simulated", "messages": messages}
            answer = self.client.post("chat/completions", json=body, headers={"authorization": "Bearer x"})
            answer.raise_for_status()
            return answer.json()["choices"][0]["message"]["content"]

        return wrap_agent(sorter)


def _check_result(result: TrainingResult) -> None:
    policy: Any = result.policy
    expect(isinstance(policy, Policy), "train() gives back a Policy.", type(policy).__name__)
    for entry in result.history:
        expect(entry.reason.strip(), "Every decision says why.", f"{entry.decision} {entry.policy_id} without a reason")


def _check_splits(rollouts: list[Trajectory], tasks: dict[str, list[Task]]) -> None:
    learned = {task.id for split in ("train", "validation") for task in tasks[split]}
    strayed = [t.task for t in rollouts if t.stage.startswith("1-") and t.task not in learned]
    expect(not strayed, "An algorithm runs training and validation tasks only.", f"it ran {strayed[:3]}")


def _check_resumed(bench: _Bench, whole: TrainingResult) -> None:
    watch = _Watch(stop_after=4)
    try:
        bench.run("interrupted", watch=watch)
    except _PluggedOut:
        resumed = bench.run("interrupted", resume=True)
        expect(
            _said(resumed) == _said(whole),
            "Interrupted and resumed, a run ends as it would have ended. (Ask the same questions in the same order for "
            "the same seed, or keep what you know with session.checkpoint.)",
            _difference(whole, resumed),
        )
    # An algorithm that asks for fewer rollouts than that was not interrupted: there is nothing to resume.


def _said(result: TrainingResult) -> Any:
    return result.policy.id, [(entry.policy_id, entry.decision) for entry in result.history]


def _difference(one: TrainingResult, other: TrainingResult) -> str:
    return f"{_said(one)!r:.400}\n       then {_said(other)!r:.400}"
