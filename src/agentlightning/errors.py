"""What can go wrong, as one small tree.

Every error of ours is also the standard library's kind, so `except ValueError` keeps working, and every message
says what happened, where, and what to do. A failing *agent* is not here: it is data (a rollout with an error).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AgentLightningError(Exception):
    """The root: catch this to catch everything Agent Lightning raises on purpose."""


class ConfigError(AgentLightningError, ValueError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class DataError(AgentLightningError, ValueError):
    """A task file, a record or an imported log cannot be read as what it should be."""


class AgentError(AgentLightningError, RuntimeError):
    """The agent object cannot be run or wrapped as asked (not: the agent failed on a task)."""


class ModelError(AgentLightningError, RuntimeError):
    """A model we call ourselves (optimiser, judge) is down, refuses the key, or answers with garbage."""


class ContextTooLong(ModelError):
    """A call has more tokens than the model can read, or leaves it no room to answer."""


class StoreError(AgentLightningError, OSError):
    """The store cannot be opened, read or written."""


class MissingExtra(AgentLightningError, ImportError):
    """An optional package is needed; the message carries the pip line."""


class BudgetExhausted(AgentLightningError, RuntimeError):
    """A hard cap (calls, tokens, money, minutes) was reached. What was found so far is kept."""


class RolloutStopped(BaseException):
    """Raised inside an agent whose rollout must not go on: its scope is closed, or the budget is spent.

    Not an `Exception`: SDK retry loops and an agent's own `except Exception` must not swallow it.
    """


def near_miss(word: str, known: Iterable[str]) -> str:
    """A hint ("Did you mean 'x'?", one space before it) for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
