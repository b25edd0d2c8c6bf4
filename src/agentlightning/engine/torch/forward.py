"""What a model thinks of some rows: logprobs and entropies of the predicted tokens, and a value head's opinion.

The output layer computes the states of predicted tokens only: prompts, observations and padding never meet the
vocabulary. Its logits are kept once, for the backward pass; probabilities are never stored.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch import sharing
from agentlightning.engine.torch.packing import Batch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

CHUNK = 1 << 22
"""Logits that are turned into probabilities at a time."""


def logits(model: Any, batch: Batch) -> Tensor:
    """Of shape (predicted tokens, vocabulary)."""
    if batch.index is not None:
        return _of_levels(model, batch.parts).index_select(0, batch.index)
    return _selected(model, batch.where, batch.input_ids, position_ids=batch.position_ids, use_cache=False)


def _of_levels(model: Any, parts: Sequence[sharing.Part]) -> Tensor:
    """Of all states that something is predicted from, level after level."""
    import torch

    told, found = sharing.cache_of(model), list[Any]()
    for part in parts:
        sharing.hand_down(told, part.parents)
        found.append(_selected(model, part.where, part.input_ids, position_ids=part.position_ids, **told))
    return torch.cat(found)


def _selected(model: Any, where: tuple[Tensor, Tensor], input_ids: Tensor, **told: Any) -> Tensor:
    """The logits of some states."""
    with _only(model, where) as is_selected, half_precision(model):
        found = model(input_ids=input_ids, **told).logits
    return found[0] if is_selected else found[where]


def states(model: Any, batch: Batch, where: tuple[Tensor, Tensor]) -> Tensor:
    """The last layer's states there, (places, width), in 32 bits."""
    with half_precision(model):
        inner = model.base_model
        found = inner(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).last_hidden_state
    return found[where].float()


def logprobs(values: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Natural log of each target's probability, with a gradient that needs no memory of its own."""
    return _logprob_function().apply(values, targets, temperature)


def entropies(values: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Of each distribution, in nats. Has a gradient where the logits have one."""
    import torch

    found = [_entropy(part, temperature) for part in values.split(_num_lines(values))]
    return torch.cat(found)


def half_precision(model: Any) -> AbstractContextManager[Any]:
    """bf16 autocast on a GPU that has it."""
    import torch

    device = next(model.parameters()).device
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


@contextmanager
def _only(model: Any, where: tuple[Tensor, Tensor]) -> Generator[bool]:
    """The output layer sees only the states there, as one row. False: the model has no such layer to speak to."""
    layer: Module | None = model.get_output_embeddings()
    if layer is None:
        yield False
        return
    handle = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0][where].unsqueeze(0), *inputs[1:]))
    try:
        yield True
    finally:
        handle.remove()


def _entropy(values: Tensor, temperature: float) -> Tensor:
    scaled = values.float() / temperature
    logs = scaled.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def _num_lines(values: Tensor) -> int:
    return max(1, CHUNK // values.shape[-1])


@cache
def _logprob_function() -> Any:
    """The autograd function; made when torch is there."""
    import torch

    class Logprobs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor, targets: Tensor, temperature: float) -> Tensor:
            norms = [(part.float() / temperature).logsumexp(-1) for part in values.split(_num_lines(values))]
            norm = torch.cat(norms)
            ctx.save_for_backward(values, targets, norm)
            ctx.temperature = temperature
            return values.gather(-1, targets[:, None])[:, 0].float() / temperature - norm

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            values, targets, norm = ctx.saved_tensors
            gradient = torch.empty_like(values)
            size = _num_lines(values)
            for start in range(0, len(values), size):
                part = slice(start, start + size)
                scaled = (values[part].float() / ctx.temperature).sub_(norm[part, None]).exp_()
                push = grads[0][part, None] / ctx.temperature
                gradient[part] = scaled.mul_(-push).scatter_add_(-1, targets[part, None], push)
            return gradient, None, None

    return Logprobs
