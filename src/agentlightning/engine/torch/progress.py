"""How far an adapter's learning is: its optimiser, its steps, and both on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agentlightning.engine.base import Learning
from agentlightning.engine.torch.folders import settle, whole_folder
from agentlightning.engine.torch.shelf import read_version, write_version
from agentlightning.engine.torch.weights import Weights
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import AdamW


class _Saved(msgspec.Struct, frozen=True):
    """`progress.json` of a checkpoint."""

    num_steps: int
    seed: int
    start: str


@dataclass
class Progress:
    """Of one adapter."""

    optimiser: AdamW
    num_steps: int = 0
    """Taken so far; the schedule and all random draws follow from it."""

    def prepare(self, learning: Learning, parameters: list[Parameter]) -> float:
        """The optimiser as this step wants it; gives the step's learning rate."""
        known = {id(p) for group in self.optimiser.param_groups for p in group["params"]}
        if any(id(p) not in known for p in parameters):
            fresh = begin(parameters).optimiser
            fresh.state.update(self.optimiser.state)
            self.optimiser = fresh
        rate = learning_rate(learning, self.num_steps)
        for group in self.optimiser.param_groups:
            decays = all(p.ndim >= 2 for p in group["params"])
            group.update(lr=rate, betas=learning.betas, weight_decay=learning.weight_decay if decays else 0.0)
        return rate


def learning_rate(learning: Learning, num_steps: int) -> float:
    """Of the step after so many: linear warm-up, then linear down to `final_rate` at `total_steps`."""
    if num_steps < learning.warmup_steps:
        return learning.learning_rate * (num_steps + 1) / learning.warmup_steps
    if learning.total_steps is None:
        return learning.learning_rate
    span = max(1, learning.total_steps - learning.warmup_steps)
    share = min(1.0, (num_steps - learning.warmup_steps) / span)
    return learning.learning_rate * (1 - share * (1 - learning.final_rate))


def begin(parameters: list[Parameter]) -> Progress:
    """A fresh optimiser. Vectors (norms, biases) are never decayed."""
    import torch

    split = [[p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]]
    is_fused = parameters[0].device.type in ("cpu", "cuda")
    return Progress(torch.optim.AdamW([{"params": part} for part in split if part], lr=0.0, fused=is_fused))


def write_checkpoint(folder: Path, weights: Weights, adapter: str, progress: Progress, *, seed: int) -> None:
    """Weights in the precision they learn in, optimiser, steps, and the version that learning began from."""
    from safetensors.torch import save_file

    exact, start = weights.exact(adapter), weights.start_of(adapter)
    saved = _Saved(progress.num_steps, seed, start)
    with whole_folder(folder) as draft:
        write_version(exact, draft / "weights.safetensors")
        if start:
            write_version(weights.version(start), draft / "start.safetensors")
        save_file(_moments(progress.optimiser), draft / "optimizer.safetensors")
        (draft / "progress.json").write_bytes(msgspec.json.encode(saved))


def read_checkpoint(folder: Path, weights: Weights, adapter: str) -> tuple[Progress, int]:
    """The adapter goes on from there; gives its progress and seed. ModelError when nothing readable is there."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    settle(folder)
    try:
        saved = msgspec.json.decode((folder / "progress.json").read_bytes(), type=_Saved)
        moments = load_file(folder / "optimizer.safetensors")
        exact = read_version(folder / "weights.safetensors")
        if saved.start:
            weights.add(read_version(folder / "start.safetensors"))
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise ModelError(f"{folder} holds no checkpoint that can be read: {error}") from error
    weights.put(adapter, exact, start=saved.start)
    progress = begin(weights.parameters(adapter))
    _put_back(progress.optimiser, moments, folder)
    progress.num_steps = saved.num_steps
    return progress, saved.seed


def _moments(optimiser: AdamW) -> dict[str, Tensor]:
    """What the optimiser remembers, by parameter and name; its settings follow from each update's `Learning`."""
    state: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, own in state.items() for name, value in own.items()}


def _put_back(optimiser: AdamW, moments: dict[str, Tensor], folder: Path) -> None:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for label, value in moments.items():
        number, _, name = label.partition(".")
        if int(number) >= len(parameters) or (value.ndim and value.shape != parameters[int(number)].shape):
            raise ModelError(
                f"{folder} is a checkpoint of another kind of adapter: what the optimiser remembers of parameter "
                f"{number} has shape {tuple(value.shape)}. Go on with the model and the plan it was made with."
            )
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
