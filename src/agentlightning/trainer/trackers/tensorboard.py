"""TensorBoard: event files in a folder, one folder a run; `tensorboard --logdir ./tensorboard` shows them."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from agentlightning.trainer.trackers.base import Tracker, needed


class TensorBoard(Tracker):
    """Curves as scalars, the configuration and the verdict as texts. `folder` starts at the configuration's own."""

    name: ClassVar[str] = "tensorboard"

    def __init__(self, folder: str = "./tensorboard") -> None:
        super().__init__()
        self.folder = folder
        self._event = needed("tensorboard.compat.proto.event_pb2", self.name).Event
        self._summary = needed("tensorboard.compat.proto.summary_pb2", self.name).Summary
        self._writer_type = needed("tensorboard.summary.writer.event_file_writer", self.name).EventFileWriter
        self._writer: Any = None

    def open(self, run_id: str) -> None:
        self._writer = self._writer_type(str(self.base_dir / self.folder / run_id))
        self._text("settings", "\n".join(f"{key}: {value}" for key, value in self.settings.items()))

    def write(self, numbers: dict[str, float], step: int) -> None:
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._add(values, step)

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        self.write(summary, 0)
        self._text("outcome", f"{outcome}: {note}")
        self._writer.close()

    def _text(self, tag: str, text: str) -> None:
        value = self._summary.Value(tag=tag)
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.tensor_shape.dim.add().size = 1
        value.tensor.string_val.append(text.encode())
        value.metadata.plugin_data.plugin_name = "text"
        self._add([value], 0)

    def _add(self, values: list[Any], step: int) -> None:
        event = self._event(wall_time=time.time(), step=step, summary=self._summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()
