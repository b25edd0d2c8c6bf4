"""One answer in the making: its ids so far, how they are drawn, and when they end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch.wishes import Wishes

if TYPE_CHECKING:
    from torch import Tensor

_SLACK = 4
"""Tokens beyond those that a stop text may be spread over."""


class Row:
    """Ids begin with the prompt. `on_end` hears of its end; with an error, if it came to one."""

    def __init__(
        self,
        prompt_ids: list[int],
        wishes: Wishes,
        *,
        max_new: int,
        ends: frozenset[int],
        seed: int,
        tokenizer: Any,
        on_end: Callable[[Row, BaseException | None], None],
        rollout_id: str = "",
    ) -> None:
        self.ids = list(prompt_ids)
        self.num_prompt = len(prompt_ids)
        self.logprobs: list[float] = []
        self.ends = ends
        self.stops = wishes.stop
        self.max_length = self.num_prompt + max_new
        self.temperature = wishes.temperature
        self.top_p = wishes.top_p
        self.top_k = max(wishes.top_k, 0)
        self.rollout_id = rollout_id
        self.finish_reason = ""
        self.on_end = on_end
        self.is_cancelled: Callable[[], bool] = lambda: False
        self.num_cached_tokens = 0
        """Of the prompt, taken over from what was computed before."""
        self.seed = seed
        self._tokenizer = tokenizer

    @property
    def computed_ids(self) -> list[int]:
        """Those whose keys and values are known: all but the last, which is the next to be read."""
        return self.ids[:-1]

    @property
    def completion_ids(self) -> list[int]:
        return self.ids[self.num_prompt :]

    @property
    def is_cut(self) -> bool:
        """Some of the likelier tokens only may be drawn."""
        return self.top_p < 1 or self.top_k > 0

    @cached_property
    def luck(self) -> Tensor:
        """A uniform number for each token that may be drawn, from the seed alone."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        return torch.rand(self.max_length - self.num_prompt, generator=generator)

    def add(self, id: int, logprob: float) -> bool:
        """One more token; True when it was the last."""
        self.ids.append(id)
        self.logprobs.append(logprob)
        if id in self.ends or (self.stops and self._stands_at_stop()):
            self.finish_reason = "stop"
            return True
        if len(self.ids) >= self.max_length:
            self.finish_reason = "length"
            return True
        return False

    def text(self) -> str:
        """What was sampled, without the end mark and from before the first stop text on."""
        ids = self.completion_ids
        text = self._decode(ids[:-1] if ids and ids[-1] in self.ends else ids)
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return text[: min(places)] if places else text

    def _stands_at_stop(self) -> bool:
        """Every token writes at least one byte of a stop text, so a short tail tells; then the whole text is asked."""
        completion = self.completion_ids
        tail = self._decode(completion[-self._num_tail :])
        return any(stop in tail for stop in self.stops) and any(stop in self._decode(completion) for stop in self.stops)

    @cached_property
    def _num_tail(self) -> int:
        return max(len(stop.encode()) for stop in self.stops) + _SLACK

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
