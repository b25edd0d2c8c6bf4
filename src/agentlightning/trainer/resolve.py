"""Names become objects, here and nowhere else: algorithms, reward functions, the agent and what its file holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.adapters.process import Program
from agentlightning.adapters.wrap import WrappedAgent, wrap_agent
from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.base import BaseAlgorithm
from agentlightning.errors import ConfigError
from agentlightning.registry import Registry
from agentlightning.rewards import ALIASES, REWARDS
from agentlightning.rewards.combine import Part, WeightedSum, equal_shares
from agentlightning.rewards.params import with_params
from agentlightning.trainer.agent_file import module_of, named, obvious, reward_of
from agentlightning.trainer.budget import Limits, limits_from
from agentlightning.trainer.config import Config, Stage
from agentlightning.trainer.config_sections import CarryOn, RewardPart


class PlannedStage(msgspec.Struct, frozen=True):
    """One algorithm of the sequence, ready to run."""

    name: str
    """Unique in the run and stable across resumes: position and algorithm, such as `1-apo`."""
    algorithm: BaseAlgorithm[Any]
    agents: list[str] | None = None
    reward: Any = None
    limits: Limits = Limits()
    """Caps of this stage alone."""
    carry_on: CarryOn = "if_better"
    group: str = ""
    """Stages of one group run side by side; "" runs alone."""


def groups_of(stages: Sequence[PlannedStage]) -> list[list[PlannedStage]]:
    """The stages in their order, those that run side by side together."""
    return [list(found) for _, found in groupby(stages, key=lambda stage: stage.group or stage.name)]


def resolve_stages(given: Any, config: Config) -> list[PlannedStage]:
    """The stages of a run: `given` (what the Trainer or the agent was told) or the config's, else APO."""
    entries: Sequence[Any] = config.algorithm or _as_list(given) or ["apo"]
    stages = [_placed_stage(entry, index, config) for index, entry in enumerate(entries, start=1)]
    _check_rewards([entry for entry in entries if isinstance(entry, Stage)])
    with config.naming("algorithm"):
        for group in groups_of(stages):
            _check_group(group)
    return stages


def _check_rewards(stages: Sequence[Stage]) -> None:
    """What a run compares is judged one way; a second reward would silently not be used."""
    asked = {str(stage.reward_function): stage for stage in stages if stage.reward_function is not None}
    if len(asked) > 1:
        one, other = [f"{stage.name} ({stage.reward_function})" for stage in asked.values()][:2]
        raise ConfigError(
            f"stages {one} and {other} have different rewards, and a run is judged one way, or its stages could not be "
            "compared. Give them one reward (a weighted sum of several will do), or make two runs of them."
        )


def _check_group(stages: Sequence[PlannedStage]) -> None:
    """Stages that run side by side must each have agents of their own, or they would undo one another."""
    owners: dict[str, str] = {}
    for stage in stages if len(stages) > 1 else []:
        if not stage.agents:
            raise ConfigError(f"stage {stage.name} runs in parallel with others: say for which agents, agents: […]")
        if type(stage.algorithm).predict is not BaseAlgorithm.predict:
            raise ConfigError(f"stage {stage.name} has a predict of its own, so it cannot run in parallel with others.")
        for agent in stage.agents:
            if agent in owners:
                raise ConfigError(
                    f"stages {owners[agent]} and {stage.name} run in parallel and both optimise agent {agent!r}. "
                    "Give it to one of them, or run them one after the other."
                )
            owners[agent] = stage.name


def resolve_reward(given: str | Sequence[RewardPart], base_dir: Path) -> Any:
    """What judges: a known name, `file.py:function` or `package.module:function`; one with settings; a weighted sum.

    A reward that needs the run's judge or store is handed to the run unbound.
    """
    parts = [RewardPart(name=given)] if isinstance(given, str) else list(given)
    functions = [_one_reward(part, base_dir) for part in parts]
    if len(parts) == 1 and parts[0].weight is None:
        return functions[0]
    names = [part.name for part in parts]
    weights = equal_shares(names, [part.weight for part in parts])
    return WeightedSum([Part(*each) for each in zip(functions, weights, names, strict=True)])


def _one_reward(part: RewardPart, base_dir: Path) -> Any:
    name = ALIASES.get(part.name, part.name)
    found = _from_path(name, base_dir, "reward") if ".py" in name else REWARDS.load(name)
    return with_params(found, name, part.params, base_dir)


class LoadedAgent(msgspec.Struct, frozen=True):
    """An agent found by path, with the tasks and the reward function its file holds, if it holds any."""

    agent: WrappedAgent
    tasks: Any = None
    reward: Callable[..., Any] | None = None


def load_agent(config: Config) -> LoadedAgent:
    """The agent of `agent.path`: `file.py`, `file.py:object`, `package.module:object`, or a program's command.

    An object inside another is written with a dot: `file.py:bot.answer`.
    """
    path = config.agent.path
    if not path:
        raise ConfigError("no agent: set agent.path to the file your agent is in, such as ./my_agent.py")
    around = {
        key: _from_path(name, config.base_dir, f"agent.{key}")
        for key in ("set_up", "tear_down")
        if (name := getattr(config.agent, key))
    }
    if config.agent.type == "process":
        program = Program.of(path, config.base_dir)
        found = wrap_agent(program, "process", tools=config.agent.tool_specs())
        found.surround(**around)
        return LoadedAgent(found)
    with config.naming("agent", "path"):
        module, name = module_of(path, config.base_dir)
        found = named(module, name, path) if name else obvious(module, path, config.agent.type)
    if not isinstance(found, WrappedAgent):
        with config.naming("agent", "type"):
            found = wrap_agent(found, config.agent.type, tools=config.agent.tool_specs())
    found.surround(**around)
    words = {key: getattr(config.agent, key) for key in ("path", "type", "set_up", "tear_down")}
    found.source = {key: word for key, word in words.items() if word} | {"base_dir": str(config.base_dir.resolve())}
    return LoadedAgent(found, getattr(module, "tasks", None), reward_of(module))


def _placed_stage(entry: Any, index: int, config: Config) -> PlannedStage:
    with config.naming("algorithm", index - 1):
        return _stage(entry, index, config)


def _stage(entry: Any, index: int, config: Config) -> PlannedStage:
    if isinstance(entry, BaseAlgorithm):
        return PlannedStage(f"{index}-{entry.name or type(entry).__name__}", entry)
    if inspect.isclass(entry) and issubclass(entry, BaseAlgorithm):
        return PlannedStage(f"{index}-{entry.name or entry.__name__}", entry())
    stage = (
        entry
        if isinstance(entry, Stage)
        else Stage.model_validate({"name": entry} if isinstance(entry, str) else entry)
    )
    kind = _load(ALGORITHMS, stage.name, config.base_dir)
    if not (inspect.isclass(kind) and issubclass(kind, BaseAlgorithm)):
        raise ConfigError(f"algorithm {stage.name!r} is not a subclass of agentlightning.BaseAlgorithm.")
    label = kind.name or kind.__name__
    reward = resolve_reward(stage.reward_function, config.base_dir) if stage.reward_function else None
    return PlannedStage(
        f"{index}-{label}",
        kind(**_placed(stage.params, kind, config)),
        stage.agents,
        reward,
        limits_from(stage.budget.caps() if stage.budget else {}),
        stage.carry_on,
        stage.group or "",
    )


def _placed(params: dict[str, Any], kind: type[BaseAlgorithm[Any]], config: Config) -> dict[str, Any]:
    """Settings that name files as absolute paths: in a configuration they start at its own folder."""
    is_path = {key for key, field in kind.Config.model_fields.items() if "Path" in str(field.annotation)}
    return {key: config.path_to(v) if key in is_path and isinstance(v, str) else v for key, v in params.items()}


def _load(registry: Registry, name: str, base_dir: Path) -> Any:
    return _from_path(name, base_dir, registry.kind) if ".py" in name else registry.load(name)


def _from_path(path: str, base_dir: Path, kind: str) -> Any:
    module, name = module_of(path, base_dir)
    if not name:
        raise ConfigError(f"{kind} {path!r}: say which object in the file, such as {path}:name")
    return named(module, name, path)


def _as_list(given: Any) -> Sequence[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
