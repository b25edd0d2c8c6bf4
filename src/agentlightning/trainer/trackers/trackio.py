"""trackio: curves in a local database; `trackio show` opens them."""

from __future__ import annotations

from typing import Any, ClassVar

from agentlightning.trainer.trackers.base import Tracker, needed


class Trackio(Tracker):
    """`space` names a Hugging Face Space to keep the project in; local when not given (see TRACKIO_DIR)."""

    name: ClassVar[str] = "trackio"

    def __init__(self, project: str = "agentlightning", space: str | None = None) -> None:
        super().__init__()
        self.project = project
        self.space = space
        self._trackio = needed("trackio", self.name)
        self._run: Any = None

    def open(self, run_id: str) -> None:
        self._run = self._trackio.init(
            project=self.project, name=run_id, space_id=self.space, config=self.settings, embed=False
        )

    def write(self, numbers: dict[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        self._run.log({**summary, "outcome": outcome, "note": note})
        self._run.finish()
