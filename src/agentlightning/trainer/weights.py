"""The weights of a run: the engine that holds them, the agents it answers for, the folder their versions lie in.

An agent whose weights are trained is answered by the engine from its first rollout on, so the baseline is the base
model's. Agents that were not named keep their own model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.data.resource import Policy
from agentlightning.engine.base import ENGINES, Engine
from agentlightning.errors import ConfigError, DataError
from agentlightning.trainer.config import Config
from agentlightning.trainer.own_loop import on_own_loop
from agentlightning.trainer.policy_folder import WEIGHTS_FOLDER, SavedEngine


def engine_spec(config: Config) -> dict[str, Any] | None:
    """What makes the engine of a configuration: its name, its model and what else was set; None without a model."""
    policy = config.models.policy
    if policy is None:
        return None
    local = config.path_to(policy.model)
    model = str(local.resolve()) if local.is_dir() else policy.model
    reached = {key: value for key, value in policy.spec().items() if key in ("base_url", "api_key_env")}
    options = config.engine.options()
    if os.sep in options.get("python", ""):
        options["python"] = str(config.path_to(options["python"]))
    return {"name": config.engine.name, "model": model, **options, **reached}


def saved_spec(config: Config) -> dict[str, Any]:
    """What makes the engine that answers for a saved policy: what verl trained is an adapter like any other."""
    spec = engine_spec(config) or {}
    if spec.get("name") != "verl":
        return spec
    shared = ("model", "method", "rank", "alpha", "dtype", "max_context_tokens", "max_batch")
    return {"name": "torch"} | {key: value for key, value in spec.items() if key in shared}


def make_engine(spec: Mapping[str, Any], gpus: int = 0) -> Engine:
    """The engine of a spec. ConfigError for what it does not take, and where there are fewer than `gpus` GPUs;
    ModelError when its model cannot be loaded."""
    options = {key: value for key, value in spec.items() if key not in ("name", "model")}
    if gpus and spec["name"] in ("torch", "verl"):
        options["gpus"] = gpus
    kind: Callable[..., Engine] = ENGINES.load(spec["name"])
    try:
        return kind(spec["model"], **options)
    except TypeError as error:
        raise ConfigError(f"engine {spec['name']!r} does not take these settings: {error}") from error


def work_folder(config: Config) -> Path:
    """Where runs keep checkpoints and versions of weights: beside the trajectories, whatever store those go to."""
    return config.path_to(config.trainer.data_dir) / "weights"


class Weights:
    """The engine of one run and what is kept of it. `agents` None: it answers for every agent."""

    def __init__(self, engine: Engine, folder: Path, agents: Collection[str] | None = None, *, seed: int = 0) -> None:
        self.engine = engine
        self.folder = folder
        self._seed = seed
        self._seeds: dict[str, Iterator[int]] = {}
        self._agents = frozenset(agents) if agents else None

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply] | None:
        """The engine's answer; None for an agent that keeps its own model."""
        if self._agents is not None and call.agent not in self._agents:
            return None
        if (seeds := self._seeds.get(rollout_id)) is not None and call.params.get("seed") is None:
            call = msgspec.structs.replace(call, params={**call.params, "seed": next(seeds)})
        return self.engine.sample(call, weights=policy.weights.get(call.agent, ""), rollout_id=rollout_id)

    def begin(self, rollout_id: str, name: str) -> None:
        """A rollout of that name begins: what is drawn by chance in it depends on the name, not on when it ran."""
        self._seeds[rollout_id] = _seeds(f"{self._seed}/{name}")

    def forget(self, rollout_id: str) -> None:
        """It has ended."""
        self._seeds.pop(rollout_id, None)
        self.engine.forget(rollout_id)

    async def keep(self, policy: Policy) -> None:
        """Put the policy's versions on disk, so that they outlive the process."""
        for version in dict.fromkeys(policy.weights.values()):
            if not (place := self.folder / version).is_dir():
                await self.engine.save(version, place)

    async def recall(self, policy: Policy, folder: Path) -> None:
        """Make the policy's versions, saved in `folder`, known to this engine. DataError when one is not there."""
        for version in dict.fromkeys(policy.weights.values()):
            await _recall(self.engine, version, folder / version)

    async def publish(self, policy: Policy, folder: Path) -> None:
        """Write the policy's versions into a policy's folder, and remove those an earlier save left there."""
        versions = set(policy.weights.values())
        for old in folder.glob("w-*"):
            if old.name not in versions:
                shutil.rmtree(old)
        for version in sorted(versions):
            if not (folder / version).is_dir():
                await self.engine.save(version, folder / version)


def _seeds(name: str) -> Iterator[int]:
    """One for each call of a rollout."""
    for number in count():
        yield int.from_bytes(hashlib.blake2b(f"{name}/{number}".encode(), digest_size=4).digest())


async def _recall(engine: Engine, version: str, folder: Path) -> None:
    """Load a saved version and check that it is the one that was meant."""
    if not folder.is_dir():
        raise DataError(
            f"weights {version} are not at {folder}. Were they moved or removed? Train again, or restore them."
        )
    found = await engine.load(folder)
    if found != version:
        raise DataError(f"{folder} holds weights {found}, not {version}: its files were changed after they were saved.")


class SavedWeights:
    """Answers for an optimised agent outside any run. The engine is made at the first call: loading takes its time."""

    def __init__(self, spec: Mapping[str, Any], folder: Path, agents: Collection[str] | None) -> None:
        self._spec = spec
        self._folder = folder
        self._agents = agents
        self._lock = threading.Lock()
        self._weights: Weights | None = None
        self._known: set[str] = set()

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply] | None:
        """The engine's answer; None for an agent that keeps its own model."""
        if self._agents is not None and call.agent not in self._agents:
            return None
        if self._weights is not None and self._known.issuperset(policy.weights.values()):
            return self._weights.respond(call, policy, rollout_id)
        answer: Future[Reply] = Future()
        threading.Thread(target=self._prepare_and_respond, args=(answer, call, policy, rollout_id), daemon=True).start()
        return answer

    def forget(self, rollout_id: str) -> None:
        if self._weights is not None:
            self._weights.forget(rollout_id)

    def _prepare_and_respond(self, answer: Future[Reply], call: Call, policy: Policy, rollout_id: str) -> None:
        try:
            inner = self._ready(policy).respond(call, policy, rollout_id)
            assert inner is not None
            answer.set_result(inner.result())
        except BaseException as error:  # noqa: BLE001 - it is the caller's, on the caller's thread
            answer.set_exception(error)

    def _ready(self, policy: Policy) -> Weights:
        with self._lock:
            if self._weights is None:
                self._weights = Weights(make_engine(self._spec), self._folder, self._agents)
            weights = self._weights
            if missing := set(policy.weights.values()) - self._known:
                on_own_loop(lambda: weights.recall(policy, self._folder))
                self._known |= missing
            return weights


def saved_weights(path: str | Path, engine: SavedEngine | None) -> SavedWeights | None:
    """What answers for the policy saved at `path` (its folder, or `policy.yaml`); None when it has no engine."""
    if engine is None:
        return None
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return SavedWeights(engine.spec, folder / WEIGHTS_FOLDER, engine.agents or None)
