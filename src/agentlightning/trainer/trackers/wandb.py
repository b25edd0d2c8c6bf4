"""Weights & Biases: a run of a project, sent as it happens, or kept in a folder with `mode: offline`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from agentlightning.trainer.trackers.base import Tracker, needed


class WandB(Tracker):
    """`mode` is W&B's own choice (WANDB_MODE) when not given; `wandb sync` sends offline runs later."""

    name: ClassVar[str] = "wandb"

    def __init__(
        self,
        project: str = "agentlightning",
        entity: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        folder: str | None = None,
    ) -> None:
        super().__init__()
        self.project = project
        self.entity = entity
        self.mode: Any = mode
        self.folder = folder
        self._wandb = needed("wandb", self.name)
        self._run: Any = None

    def open(self, run_id: str) -> None:
        folder = str(self.base_dir / self.folder) if self.folder else None
        self._run = self._wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=folder,
            name=run_id,
            config=self.settings,
            reinit="create_new",
        )

    def write(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(numbers, step=step)

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        self._run.summary.update({**summary, "outcome": outcome, "note": note})
        self._run.finish(exit_code=1 if outcome == "failed" else 0)
