"""Who is speaking, read off the call stack: the fallback where a framework's own hook is gone.

Slower than a ContextVar, and blind to what runs in another thread than its agent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any


def speaker_on_stack(
    kinds: tuple[type, ...], *, variables: Iterable[str] = ("self",), name_of: Callable[[Any], str | None]
) -> str | None:
    """The name of the innermost agent (an instance of `kinds` that has one) at work in this thread, or None."""
    wanted = tuple(variables)
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        for variable in wanted:
            is_held = variable in frame.f_code.co_varnames and isinstance(frame.f_locals.get(variable), kinds)
            if is_held and (name := name_of(frame.f_locals[variable])):
                return name
        frame = frame.f_back
    return None
