"""What every tracker is told of a run; a tracker itself only says how to open, write numbers and close.

The horizontal axis is the number of rollouts so far. Numbers of rollouts are written at most once a second, so that a
tracker's own speed never holds up a run; everything decided is written when it is decided.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agentlightning.algorithms.base import Decision, Evaluation
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import ConfigError, MissingExtra, near_miss
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.config import Config
from agentlightning.trainer.config_sections import TrackerSection
from agentlightning.trainer.measure import Measurement
from agentlightning.trainer.result import Cost, TrainingResult
from agentlightning.trainer.trackers import TRACKERS

_EVERY_SECONDS = 1.0


class Tracker(Callback):
    """Subclass with `open`, `write` and `close`; keyword arguments of `__init__` are the settings in `params`."""

    name: ClassVar[str] = ""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        """The run's configuration, secrets masked, by dotted key."""
        self.base_dir = Path.cwd()
        self._is_open = False
        self._tally = _Tally()

    def open(self, run_id: str) -> None:
        """Begin a run of that name, with `settings` as its parameters."""
        raise NotImplementedError

    def write(self, numbers: dict[str, float], step: int) -> None:
        """Points of curves."""
        raise NotImplementedError

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        """End the run. `outcome` is a verdict, measured, or failed; `summary` its final numbers; `note` says why."""
        raise NotImplementedError

    def on_run_start(self, run_id: str, plan: list[str]) -> None:
        self._tally = _Tally()
        self.open(run_id)
        self._is_open = True

    def on_stage_start(self, stage: str, text: str) -> None:
        self._write_rollouts()
        self._tally.rewards = []

    def on_rollout_end(self, trajectory: Trajectory) -> None:
        self._tally.add(trajectory)
        if time.monotonic() - self._tally.written_at >= _EVERY_SECONDS:
            self._write_rollouts()

    def on_evaluation(self, stage: str, evaluation: Evaluation) -> None:
        if evaluation.scores:
            self._write({"validation/mean_reward": evaluation.mean})

    def on_candidate(self, stage: str, candidate: Policy, decision: Decision, reason: str) -> None:
        self._tally.decisions[decision] += 1
        self._write({f"candidates/{decision}": float(self._tally.decisions[decision])})

    def on_log(self, stage: str, text: str, metrics: dict[str, float]) -> None:
        if metrics:
            self._write({f"{stage}/{name}": float(value) for name, value in metrics.items()})

    def on_measured(self, measurement: Measurement) -> None:
        summary = {} if measurement.mean is None else {"evaluation/mean_reward": measurement.mean}
        self._end("measured", summary | _spent(measurement.cost), measurement.reward_source)

    def on_run_end(self, result: TrainingResult) -> None:
        where = "held_out" if result.num_test_tasks else "not_held_out"
        low, high = result.interval or (None, None)
        found = {"baseline": result.baseline, "final": result.final, "difference": result.difference}
        found |= {"interval_low": low, "interval_high": high, "p_value": result.p_value}
        summary = {f"{where}/{name}": value for name, value in found.items() if value is not None}
        summary["held_out/num_tasks"] = float(result.num_test_tasks)
        self._end(result.verdict, summary | _spent(result.cost), f"{result.headline}. {result.evidence}")

    def on_run_error(self, error: BaseException) -> None:
        self._end("failed", {}, f"{type(error).__name__}: {error}")

    def _end(self, outcome: str, summary: dict[str, float], note: str) -> None:
        if self._is_open:  # a run that failed before it began has nothing to close
            self._write_rollouts()
            self._is_open = False
            self.close(outcome, summary, note)

    def _write_rollouts(self) -> None:
        self._tally.written_at = time.monotonic()
        if self._tally.num_rollouts:
            self._write(self._tally.numbers())

    def _write(self, numbers: dict[str, float]) -> None:
        if self._is_open:
            self.write(numbers, self._tally.num_rollouts)


class _Tally:
    """What a run came to so far."""

    def __init__(self) -> None:
        self.num_rollouts = 0
        self.written_at = 0.0
        self.rewards: list[float] = []
        """Of this stage."""
        self.spent: Counter[str] = Counter()
        self.usd = 0.0
        self.decisions: Counter[Decision] = Counter()

    def add(self, trajectory: Trajectory) -> None:
        self.num_rollouts += 1
        self.spent["calls"] += len(trajectory.model_steps)
        self.spent["tokens"] += trajectory.usage.input_tokens + trajectory.usage.output_tokens
        self.spent["failed"] += trajectory.status in ("failed", "timeout")
        self.usd += trajectory.usd or 0.0
        if trajectory.reward is not None:
            self.rewards.append(trajectory.reward)

    def numbers(self) -> dict[str, float]:
        """The running numbers, by the names of their curves."""
        numbers = {f"rollouts/{name}": float(count) for name, count in self.spent.items()}
        if self.rewards:
            numbers["rollouts/mean_reward_of_stage"] = sum(self.rewards) / len(self.rewards)
        return numbers | ({"rollouts/usd": self.usd} if self.usd else {})


def needed(module: str, tracker: str) -> Any:
    """A tracker's own package; MissingExtra, with the pip line, where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"tracker {tracker!r} needs the {tracker} package:  pip install 'agentlightning[{tracker}]'"
        ) from error


def resolve_trackers(entries: Any, config: Config) -> list[Callback]:
    """Trackers by name, by mapping, or as objects, told the run's settings. Raises ConfigError or MissingExtra."""
    given: Sequence[Any] = entries if isinstance(entries, list | tuple) else [entries]
    return [_tracker(entry, config) for entry in given]


def _tracker(entry: Any, config: Config) -> Callback:
    if isinstance(entry, Callback):
        made = entry
    else:
        section = TrackerSection.model_validate({"name": entry} if isinstance(entry, str) else entry)
        kind = TRACKERS.load(section.name)
        if not (inspect.isclass(kind) and issubclass(kind, Callback)):
            raise ConfigError(f"tracker {section.name!r} is not a subclass of agentlightning.Callback.")
        made = _made(kind, section)
    if isinstance(made, Tracker):
        made.settings, made.base_dir = _flat(config.to_dict()), config.base_dir
    return made


def _made(kind: type[Callback], section: TrackerSection) -> Callback:
    known = [name for name in inspect.signature(kind).parameters if name not in ("args", "kwargs")]
    for name in section.params:
        if name not in known:
            hint = near_miss(name, known)
            raise ConfigError(
                f"tracker {section.name!r} has no parameter {name!r}.{hint} Known: {', '.join(known) or 'none'}."
            )
    return kind(**section.params)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """`{"trainer": {"seed": 0}}` as `{"trainer.seed": 0}`; of lists each item, of tasks their number."""
    if path.startswith("tasks.") and isinstance(value, list):
        return {path: f"{len(value)} tasks"}
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flat(item, f"{path}.{key}" if path else str(key))
    return flat


def _spent(cost: Cost) -> dict[str, float]:
    spent = {
        "calls": cost.calls, "input_tokens": cost.input_tokens, "output_tokens": cost.output_tokens,
        "seconds": cost.seconds, "usd": cost.usd,
    }  # fmt: skip
    return {f"cost/{name}": float(value) for name, value in spent.items() if value is not None}
