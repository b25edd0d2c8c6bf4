"""MLflow: a run of an experiment, on a server or in a local file; `mlflow ui` shows it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from agentlightning.trainer.trackers.base import Tracker, needed

_MAX_VALUE_CHARACTERS = 500
"""Longer parameters are refused by MLflow."""


class MLflow(Tracker):
    """`tracking_uri` (`sqlite:///mlflow.db`, a folder, a server) is MLflow's own choice when not given."""

    name: ClassVar[str] = "mlflow"

    def __init__(self, experiment: str = "agentlightning", tracking_uri: str | None = None) -> None:
        super().__init__()
        self.experiment = experiment
        self.tracking_uri = tracking_uri
        self._mlflow = needed("mlflow", self.name)
        self._entities = needed("mlflow.entities", self.name)
        self._client: Any = None
        self._run = ""

    def open(self, run_id: str) -> None:
        # The client, not mlflow.start_run: that one keeps the run per thread, and a run speaks from several.
        self._client = self._mlflow.MlflowClient(self.tracking_uri)
        found = self._client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else self._client.create_experiment(self.experiment)
        self._run = self._client.create_run(experiment, run_name=run_id).info.run_id
        param = self._entities.Param
        params = [param(key, str(value)[:_MAX_VALUE_CHARACTERS]) for key, value in self.settings.items()]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._run, params=params[start : start + 100])

    def write(self, numbers: dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metric = self._entities.Metric
        self._client.log_batch(self._run, metrics=[metric(name, value, now, step) for name, value in numbers.items()])

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        self.write(summary, 0)
        self._client.set_tag(self._run, "agentlightning.outcome", outcome)
        self._client.set_tag(self._run, "mlflow.note.content", note)
        self._client.set_terminated(self._run, "FAILED" if outcome == "failed" else "FINISHED")
