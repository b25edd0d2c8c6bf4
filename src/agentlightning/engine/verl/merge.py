"""Runs in verl's environment: one adapter in PEFT's layout out of each of verl's sharded checkpoints.

python -m agentlightning.engine.verl.merge CHECKPOINTS TARGET     CHECKPOINTS/global_step_N/actor → TARGET/N
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

LAYOUT = "lora_adapter"
"""The folder in which verl's merger puts an adapter."""


def merge(checkpoints: Path, target: Path) -> list[int]:
    """The steps that have an adapter in `target` now. Those that were merged before are left as they are."""
    steps = sorted(int(path.name.removeprefix("global_step_")) for path in checkpoints.glob("global_step_*"))
    for step in steps:
        place = target / str(step)
        if not place.is_dir():
            draft = target / f".draft-{step}"
            shutil.rmtree(draft, ignore_errors=True)
            _merger(checkpoints / f"global_step_{step}" / "actor", draft).merge_and_save()
            (draft / LAYOUT).rename(place)
            shutil.rmtree(draft)
    return steps


def _merger(checkpoint: Path, target: Path) -> Any:
    """verl's own, but for the base model, which stays where it is."""
    base = importlib.import_module("verl.model_merger.base_model_merger")
    fsdp = importlib.import_module("verl.model_merger.fsdp_model_merger")

    class AdapterMerger(fsdp.FSDPModelMerger):
        def save_hf_model_and_tokenizer(self, state_dict: dict[str, Any]) -> None:
            if self.save_lora_adapter(state_dict) is None:
                raise SystemExit(f"{checkpoint} holds no adapter")

    config = base.ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(checkpoint),
        target_dir=str(target),
        hf_model_config_path=str(checkpoint / "huggingface"),
    )
    return AdapterMerger(config)


if __name__ == "__main__":
    merge(Path(sys.argv[1]), Path(sys.argv[2]))
