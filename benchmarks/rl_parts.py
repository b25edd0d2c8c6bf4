"""Where CPU-seconds go: the parts of the product are timed by the clock of the thread they run on.

A part's time is its own, without that of other parts called inside it. What no part claims is what surrounds the model:
the event loop, agents, records, merging, credit.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from typing import Any

FORWARD = "sampling: the model's passes"
BATCHES = "sampling: batches, caches, drawing"
WORDS = "calls: prompts into tokens, tokens into replies"
LEARNING = "learning: the model's passes, optimiser"
ROWS = "learning: rows, batches, figures"
VERSIONS = "versions of weights"
CHECKPOINT = "checkpoints"
AROUND = "around: agents, event loop, records, merging, credit"


class Parts:
    """While the block runs, methods of the engine tell how long they took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._local = threading.local()
        self._undo: list[tuple[Any, str, Any]] = []

    def seconds(self) -> dict[str, float]:
        """So far, by part; together the process's."""
        names = (FORWARD, BATCHES, WORDS, LEARNING, ROWS, VERSIONS, CHECKPOINT)
        known = {name: self._seconds[name] for name in names}
        return {**known, AROUND: time.process_time() - sum(known.values())}

    def __enter__(self) -> Parts:
        import torch

        from agentlightning.engine.torch import forward, learner, sampler, speaking, weights
        from agentlightning.engine.torch.group import Group

        self._watch(Group, "_compute", FORWARD)
        self._watch(sampler.Sampler, "step", BATCHES)
        self._watch(speaking.Speaker, "rows", WORDS)
        self._watch(speaking._Answer, "_reply", WORDS)
        self._watch(forward, "logits", LEARNING)
        self._watch(torch.Tensor, "backward", LEARNING)
        self._watch(torch.optim.AdamW, "step", LEARNING)
        self._watch(torch.nn.utils, "clip_grad_norm_", LEARNING)
        self._watch(learner.Learner, "_step", ROWS, is_generator=True)
        self._watch(learner.Learner, "_check", ROWS)
        self._watch(learner, "groups", ROWS)
        self._watch(weights.Weights, "snapshot", VERSIONS)
        self._watch(weights.Weights, "_reside", VERSIONS)
        self._watch(learner.Learner, "checkpoint", CHECKPOINT)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, before in reversed(self._undo):
            setattr(owner, name, before)

    def _watch(self, owner: Any, name: str, part: str, *, is_generator: bool = False) -> None:
        before = getattr(owner, name)

        @functools.wraps(before)
        def timed(*args: Any, **options: Any) -> Any:
            with self._clock(part):
                return before(*args, **options)

        @functools.wraps(before)
        def timed_steps(*args: Any, **options: Any) -> Any:
            steps = before(*args, **options)
            while True:
                with self._clock(part):
                    try:
                        next(steps)
                    except StopIteration as done:
                        return done.value
                yield

        self._undo.append((owner, name, before))
        setattr(owner, name, timed_steps if is_generator else timed)

    def _clock(self, part: str) -> _Clock:
        return _Clock(self._seconds, self._local, part)


class _Clock:
    """Stops the part around it while it runs."""

    def __init__(self, seconds: dict[str, float], local: Any, part: str) -> None:
        self._seconds, self._local, self._part = seconds, local, part

    def __enter__(self) -> None:
        self._began, self._inside = time.thread_time(), getattr(self._local, "inside", 0.0)
        self._local.inside = 0.0

    def __exit__(self, *_: object) -> None:
        spent = time.thread_time() - self._began
        self._seconds[self._part] += spent - self._local.inside
        self._local.inside = self._inside + spent
