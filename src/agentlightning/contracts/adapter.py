"""What every adapter must keep, tried with an agent of its kind."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from agentlightning.adapters.base import Adapter
from agentlightning.adapters.wrap import wrap_agent
from agentlightning.contracts.broken import expect

_STRANGERS: tuple[Any, ...] = (None, 0, "text", object(), [], {}, Exception("x"))


def check_adapter(kind: Any, agent: Any, task_input: str | dict[str, Any], *, path: str) -> Any:
    """Raises ContractBroken unless the adapter keeps these promises; gives back what the agent answered.

    It has a name; it recognises `agent` and refuses strangers with a reason, never with an exception; it labels the
    agent, always alike; it runs it twice on `task_input`; wrapped by `path` (`module:Class`), it answers the same way.
    `agent` should answer without a network, or reach a server of your test's own.
    """
    expect(Adapter in getattr(kind, "__mro__", ()), "An adapter is a subclass of Adapter.", repr(kind))
    expect(kind.name, "An adapter has a name.", f"{kind.__name__}.name is empty")
    expect(
        kind.recognises(agent) is True,
        "An adapter recognises its own kind.",
        f"recognises() gave {kind.recognises(agent)!r}",
    )
    expect(
        kind.refusal(agent) is None,
        "An adapter does not refuse its own kind.",
        f"refusal() said {kind.refusal(agent)!r}",
    )
    for stranger in _STRANGERS:
        _check_stranger(kind, stranger)
    adapter: Any = kind(agent)
    label: Any = adapter.label()
    expect(isinstance(label, str) and label.strip(), "label() is a readable id.", repr(label))
    expect(
        kind(agent).label() == label, "The same agent has the same label.", f"{label!r}, then {kind(agent).label()!r}"
    )
    expect(all(isinstance(name, str) for name in adapter.members()), "members() are names.", repr(adapter.members()))
    expect(all(isinstance(line, str) for line in adapter.health()), "health() is sentences.", repr(adapter.health()))
    answers = [_ended(adapter.invoke(task_input)) for _ in range(2)]
    wrapped = _ended(wrap_agent(agent, path)(task_input))
    types = {type(answer) for answer in (*answers, wrapped)}
    expect(len(types) == 1, "An agent answers the same kind of thing each time, also wrapped.", repr(types))
    return wrapped


def _check_stranger(kind: Any, stranger: Any) -> None:
    shown = f"for {stranger!r:.40}"
    try:
        is_mine, refusal = kind.recognises(stranger), kind.refusal(stranger)
    except Exception as error:
        expect(False, "recognises() and refusal() raise nothing.", f"{type(error).__name__}: {error} {shown}")
        raise
    expect(is_mine is False, "An adapter recognises its own kind only.", f"{is_mine!r} {shown}")
    expect(isinstance(refusal, str) and refusal, "An adapter says why it refuses.", f"{refusal!r} {shown}")


def _ended(answer: Any) -> Any:
    async def wait() -> Any:
        return await answer

    return asyncio.run(wait()) if inspect.isawaitable(answer) else answer
