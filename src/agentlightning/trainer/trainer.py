"""The Trainer: sync at the door, one thread with its own event loop behind it.

So it works the same in a script, in pytest, and in a notebook or web server whose own loop is running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agentlightning.adapters.wrap import WrappedAgent, wrap_agent
from agentlightning.algorithms.base import BaseAlgorithm
from agentlightning.data.record import new_id
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.errors import AgentError, ConfigError, near_miss
from agentlightning.interception.scope import Predict
from agentlightning.store.archive import export_jsonl
from agentlightning.store.base import Store
from agentlightning.store.liveness import is_alive
from agentlightning.store.open import open_store
from agentlightning.store.statistics import latest_runs
from agentlightning.store.whole_file import clear_drafts, draft
from agentlightning.trainer.bench import Bench
from agentlightning.trainer.callbacks import Callback, Callbacks
from agentlightning.trainer.config import Config, config_from, load_config
from agentlightning.trainer.config_sections import TrainerSection
from agentlightning.trainer.earlier import keep_earlier
from agentlightning.trainer.inspection import Inspection, inspect_agent
from agentlightning.trainer.interrupt import Interrupt
from agentlightning.trainer.learning import loaded_predict, predictor, saved_predict
from agentlightning.trainer.live import live_tasks
from agentlightning.trainer.measure import Measurement, measure
from agentlightning.trainer.own_loop import on_own_loop
from agentlightning.trainer.policy_folder import WEIGHTS_FOLDER, SavedEngine, load_policy, read_policy, save_policy
from agentlightning.trainer.progress import ProgressMode, progress_for
from agentlightning.trainer.report import write_report
from agentlightning.trainer.resolve import PlannedStage, resolve_reward, resolve_stages
from agentlightning.trainer.result import TrainingResult
from agentlightning.trainer.run import Run
from agentlightning.trainer.targets import asked_for, check_known
from agentlightning.trainer.tasks import LIVE, TaskSplits, load_task_splits, split_tasks
from agentlightning.trainer.trackers.base import resolve_trackers
from agentlightning.trainer.weights import Weights, engine_spec, make_engine, saved_spec, saved_weights, work_folder

T = TypeVar("T")

_TOP_LEVEL = ("algorithm", "reward", "models", "store", "budget", "tasks", "trackers")


class Trainer:
    """Makes an agent better and hands it back.

    `agent` is what `wrap_agent` returned, or the plain agent. Settings are the config file's words: those of its
    `trainer` section (`max_epochs`, `data_dir`, `output_dir`, `max_in_flight`, `timeout_seconds`, `retries`, `seed`, …)
    and `algorithm`, `reward`, `models`, `store`, `budget`, `tasks`; or `config=` a file, a mapping or a Config, which
    the keywords then override. Objects are taken where names are: an algorithm, a reward function, an open store.
    """

    def __init__(
        self,
        agent: Any,
        *,
        config: Config | Mapping[str, Any] | str | Path | None = None,
        callbacks: Sequence[Callback] | None = None,
        progress: ProgressMode | bool | None = None,
        **settings: Any,
    ) -> None:
        self.agent = agent if isinstance(agent, WrappedAgent) else wrap_agent(agent)
        self.objects = {key: settings.pop(key) for key in _TOP_LEVEL if not _is_plain(settings.get(key))}
        self.config = _config(config, settings)
        self.result: TrainingResult | None = None
        self._interrupt = Interrupt()
        shown = progress_for(self.config.trainer.progress if progress is None else progress)
        trackers = resolve_trackers(self.objects.get("trackers") or self.config.trackers, self.config)
        self._callbacks = Callbacks([*shown, *trackers, *(callbacks or [])])
        self._stages = self._resolve_stages()
        self._check_models()
        check_known(asked_for(self.config.agent.target_agents, self._stages), self.agent)

    def train(self, tasks: Any = None, *, resume: str | bool = False) -> TrainingResult:
        """Improve the agent on `tasks`, measure it on tasks held out from them, write policy and report.

        Tasks are strings, mappings, Task objects or any iterable of them, a file (JSONL, JSON, CSV, TSV, text,
        Parquet), or `{"train": …, "validation": …, "test": …}`; `"live"`: what the agent was asked in real use (see
        `wrap_agent(store=…)`); by default those of the config. Blocks until done.
        `resume` (a run's id, or True for the last unfinished one in the store) carries an interrupted run on, given the
        same tasks and settings: what is on record is not run, asked or paid again.
        Raises ConfigError, DataError, AgentError, ModelError or StoreError: one message that says what to do.
        """
        splits = self._splits(tasks)
        self.agent.prepare()
        result = self._run(lambda: self._train(splits, resume))
        self.result = result
        self._callbacks.tell("on_run_end", result)
        return result

    def load_optimized_agent(self) -> WrappedAgent:
        """The agent, steered by what training handed back: of this Trainer, else the last one saved in `output_dir`."""
        if self.result is not None and self.config.models.policy is None:
            return self.agent.steered(self.result.policy, self._predict())
        return load_optimized_agent(self._output_dir, self.agent)

    def evaluate(self, tasks: Any = None, policy: Policy | None = None) -> Measurement:
        """Run the agent once on each task and judge it: as it is (or as `agent.use` set it), or under `policy`."""
        policy = policy or self.agent.policy or Policy()
        given = self._splits_given(tasks).train
        self.agent.prepare()

        async def work() -> Measurement:
            run_id = new_id("eval")
            async with self._store() as store, self._weights(run_id) as weights:
                if weights is not None:
                    await weights.recall(policy, self._output_dir / WEIGHTS_FOLDER)
                return await measure(Bench(**self._bench(store, run_id, weights)), given, policy)

        measured = self._run(work)
        self._callbacks.tell("on_measured", measured)
        return measured

    def inspect(self, tasks: Any = None) -> Inspection:
        """Run the agent once on each task and tell what would be optimised; needs no reward."""
        given = self._splits_given(tasks).train
        self.agent.prepare()

        async def work() -> Inspection:
            run_id = new_id("look")
            async with self._store() as store, self._weights(run_id) as weights:
                return await inspect_agent(Bench(**self._bench(store, run_id, weights)), given)

        return self._run(work)

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._interrupt = Interrupt(lambda: self._callbacks.tell("on_interrupt"))
        try:
            return on_own_loop(work, self._interrupt.ask)
        except BaseException as error:
            self._callbacks.tell("on_run_error", error)
            raise

    def _splits(self, tasks: Any) -> TaskSplits:
        return split_tasks(self._splits_given(tasks), seed=self.config.trainer.seed)

    def _splits_given(self, tasks: Any) -> TaskSplits:
        source = tasks if tasks is not None else self.objects.get("tasks")
        source = source if source is not None else self.config.task_sources()
        if source is None:
            raise ConfigError("no tasks: call trainer.train(tasks=[…]), or set tasks in the config to a file.")
        if isinstance(source, dict):
            source = {split: self._with_live(given) for split, given in source.items()}
        if tasks is not None or "tasks" in self.objects:
            return load_task_splits(self._with_live(source))
        with self.config.naming("tasks"):
            return load_task_splits(self._with_live(source))

    def _with_live(self, source: Any) -> Any:
        return on_own_loop(self._live_tasks) if isinstance(source, str) and source == LIVE else source

    async def _live_tasks(self) -> list[Task]:
        async with self._store() as store:
            return await live_tasks(store, self.agent.agent_id)

    def _resolve_stages(self) -> list[PlannedStage]:
        given = self.objects.get("algorithm")
        return resolve_stages(given if given is not None else self.agent.algorithm, self.config)

    def _check_models(self) -> None:
        if self.config.models.task is not None:
            raise ConfigError("models.task: the agent's own model is set in the agent, not here, in this version.")
        needy = [stage.name for stage in self._stages if stage.algorithm.needs_engine]
        if needy and self.config.models.policy is None:
            raise ConfigError(
                f"stage {needy[0]} trains weights, and there is no model whose weights are ours to train. Set "
                "models.policy to the folder or the hub name of a model (a hosted model cannot be trained this way; "
                "`apo` improves its prompts)."
            )
        kept = [stage.name for stage in self._stages if stage.algorithm.needs_engine and not stage.algorithm.hands_over]
        if kept and self.config.engine.name == "verl":
            raise ConfigError(
                f"stage {kept[0]}: engine verl takes over reinforcement learning (rl, grpo, dr_grpo, gspo, cispo) and "
                "nothing else. Train this stage in a run of its own, with engine: torch or engine: vllm."
            )

    async def _train(self, splits: TaskSplits, resume: str | bool) -> TrainingResult:
        self._saved_predict()  # what cannot be saved is better refused now than when all is paid
        async with self._store() as store:
            run_id = await _run_to_resume(store, resume) if resume else new_id("run")
            async with self._weights(run_id) as weights:
                bench = self._bench(store, run_id, weights)
                write = partial(self._write, store=store, weights=weights)
                return await Run(**bench, is_resumed=bool(resume), splits=splits, write=write).execute()

    @asynccontextmanager
    async def _store(self) -> AsyncGenerator[Store]:
        given: Any = self.objects.get("store")
        store = open_store(given or self.config.store_address(), durability=self.config.store.durability)
        try:
            yield store
        finally:
            if given is None:  # an open store that was given stays the giver's to close
                await store.close()

    @asynccontextmanager
    async def _weights(self, run_id: str) -> AsyncGenerator[Weights | None]:
        """The engine of `models.policy` while a run needs it; None when no weights are to be trained."""
        spec = engine_spec(self.config)
        if spec is None:
            yield None
            return
        engine = await asyncio.to_thread(make_engine, spec, self.config.trainer.gpus)
        try:
            folder = work_folder(self.config) / run_id / "versions"
            yield Weights(engine, folder, self._trained() or None, seed=self.config.trainer.seed)
        finally:
            await engine.close()

    def _trained(self) -> list[str]:
        """The agents whose calls the engine answers; empty: all of them."""
        return asked_for(self.config.agent.target_agents, self._stages)

    @property
    def _output_dir(self) -> Path:
        return self.config.path_to(self.config.trainer.output_dir)

    def _bench(self, store: Store, run_id: str, weights: Weights | None) -> dict[str, Any]:
        """What everything that runs the agent is made of."""
        return {
            "weights": weights,
            "interrupt": self._interrupt,
            "run_id": run_id,
            "agent": self.agent,
            "config": self.config,
            "store": store,
            "callbacks": self._callbacks,
            "reward": self._reward(),
            "stages": self._stages,
        }

    def _reward(self) -> Any:
        """`reward=` of the Trainer, of the config, of the agent; by name or as the function itself."""
        for given in (self.objects.get("reward"), self.config.reward, self.agent.reward):
            if given is not None:
                is_named = isinstance(given, str | list)
                with self.config.naming("reward"):
                    return resolve_reward(given, self.config.base_dir) if is_named else given
        return None

    async def _write(self, result: TrainingResult, store: Store, weights: Weights | None) -> None:
        folder = Path(result.output_dir)
        clear_drafts(folder)
        if kept := keep_earlier(folder, result.run_id):
            self._callbacks.tell("on_note", kept)
        engine = None
        if weights is not None:
            await weights.publish(result.policy, folder / WEIGHTS_FOLDER)
            engine = SavedEngine(saved_spec(self.config), self._trained())
        save_policy(result.policy, folder, result=result, engine=engine, **self._saved_predict())
        with draft(folder) as file:
            file.file.write(result.to_json())
            file.publish(folder / "result.json")
        write_report(result, folder / "report.html")
        await export_jsonl(store, folder / "trajectories.jsonl", {"run": result.run_id})

    def _custom(self) -> BaseAlgorithm[Any] | None:
        """The last algorithm with a `predict` of its own; None where the default will do."""
        own = [s.algorithm for s in self._stages if type(s.algorithm).predict is not BaseAlgorithm.predict]
        return own[-1] if own else None

    def _predict(self) -> Predict | None:
        custom = self._custom()
        return predictor(custom) if custom else None

    def _saved_predict(self) -> dict[str, Any]:
        custom = self._custom()
        return saved_predict(custom) if custom else {}


def load_optimized_agent(path: str | Path, agent: Any) -> WrappedAgent:
    """The agent steered by a saved policy (its folder, or `policy.yaml`); needs no store and no Trainer.

    `agent` is the plain agent or a wrapped one, which itself stays as it is. Raises DataError when the folder holds no
    policy, AgentError when the policy was made for an agent of another name.
    """
    wrapped = agent if isinstance(agent, WrappedAgent) else wrap_agent(agent)
    saved, policy = read_policy(path), load_policy(path)
    named = policy.demos.keys() | policy.models.keys() | policy.weights.keys()
    made_for = {site.agent for site in policy.sites} | named
    if made_for and not made_for & {*wrapped.names()} and wrapped.adapter.knows_all_members:
        raise AgentError(
            f"the policy in {str(path)!r} was made for {', '.join(sorted(made_for))}, and this agent is called "
            f"{wrapped.agent_id!r}. If it is the same agent renamed: wrap_agent(agent, name={sorted(made_for)[0]!r})."
        )
    return wrapped.steered(policy, loaded_predict(saved), saved_weights(path, saved.engine))


async def _run_to_resume(store: Store, resume: str | bool) -> str:
    """The id of the run to carry on; ConfigError when there is none."""
    runs = await latest_runs(store)
    if isinstance(resume, str) and resume not in runs:
        raise ConfigError(f"there is no run {resume!r} in {store.address}.{near_miss(resume, runs)}")
    trainings = [id for id, body in runs.items() if body.get("kind") == "training" and body["status"] != "finished"]
    asked_for = [resume] if isinstance(resume, str) else trainings
    if not asked_for:
        raise ConfigError(f"there is no unfinished run in {store.address} to resume.")
    idle = [id for id in asked_for if not is_alive(runs[id])]
    if not idle:
        raise ConfigError(
            f"run {asked_for[-1]} is still running, in process {runs[asked_for[-1]]['process']['pid']} on this "
            "machine. Wait for it, or stop it first."
        )
    return idle[-1]


def _config(config: Any, settings: dict[str, Any]) -> Config:
    known = [*TrainerSection.model_fields, *_TOP_LEVEL]
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"Trainer has no setting {key!r}.{near_miss(key, known)} Known: {', '.join(known)}; or config=."
            )
    if config is None:
        base = config_from({})
    elif isinstance(config, Config):
        base = config
    elif isinstance(config, Mapping):
        base = config_from(config)
    else:
        base = load_config(config)
    values = {key if key in _TOP_LEVEL else f"trainer.{key}": value for key, value in settings.items()}
    return base.replace(values) if values else base


def _is_plain(value: Any) -> bool:
    """Can this stand in a config file? Objects (functions, algorithms, stores, iterators) are kept beside it."""
    if value is None or isinstance(value, str | int | float | Path):
        return True
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    return isinstance(value, list | tuple) and all(_is_plain(item) for item in value)
