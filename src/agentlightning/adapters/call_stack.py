"""Who is speaking, read off the call stack: the fallback where a framework's own hook is gone.

Slower than a ContextVar, and blind to what runs in another thread than its agent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable


def speaker_on_stack(
    kinds: tuple[type, ...], *, variables: Iterable[str] = ("self",), name: str = "name"
) -> str | None:
    """The name of the innermost agent (an instance of `kinds`) that is at work in this thread, or None."""
    wanted = tuple(variables)
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        for variable in wanted:
            if variable in frame.f_code.co_varnames and isinstance(found := frame.f_locals.get(variable), kinds):
                return str(getattr(found, name)).strip()
        frame = frame.f_back
    return None
