"""Running out of memory, said in words that help."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agentlightning.errors import ModelError

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says on GPUs, on CPUs, and on Apple's."""


@contextmanager
def room(what: str, remedy: str) -> Generator[None]:
    """ModelError instead of torch's own when memory ends in the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error).lower() for sign in _SIGNS):
            raise
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"out of memory while {what} ({reason}). {remedy}") from error
