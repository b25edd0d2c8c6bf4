"""How another process finds the agent again: by its path, by its name in a module, or by its pickled bytes.

In that order: what a path or a name gives is made anew in every worker, as it is in a fresh run of the user's program.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from agentlightning.adapters.wrap import WrappedAgent, wrap_agent
from agentlightning.errors import AgentError

_TYPED = "it is defined in a notebook, at a prompt or in a program that is no file"


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an agent comes from: one of `source`, `module` with `name`, and `pickled`."""

    source: dict[str, str] = {}
    """As `WrappedAgent.source`."""
    module: str = ""
    name: str = ""
    pickled: bytes = b""
    adapter: str = ""
    """What runs it, as `module:Class`."""
    around: bytes = b""
    """Its `set_up` and `tear_down`, pickled, where `source` does not name them."""

    @property
    def needs_main(self) -> bool:
        """Is the user's main program part of it?"""
        return self.module == "__main__" or b"__main__" in self.pickled + self.around


def origin_of(agent: WrappedAgent) -> Origin:
    """Where a worker finds this agent. AgentError saying what to do when it can find it nowhere."""
    if agent.source:
        return Origin(source=agent.source)
    adapter = f"{type(agent.adapter).__module__}:{type(agent.adapter).__qualname__}"
    has_around = agent.set_up is not None or agent.tear_down is not None
    around = _pickled(agent, (agent.set_up, agent.tear_down), "set_up or tear_down") if has_around else b""
    if (named := next(_names_of(agent), None)) is not None:
        return Origin(module=named[0], name=named[1], adapter=adapter, around=around)
    return Origin(pickled=_pickled(agent, agent.agent, repr(agent.agent_id)), adapter=adapter, around=around)


def load_origin(origin: Origin) -> WrappedAgent:
    """The agent, in the process that is to run it. Raises what its own code raises."""
    if origin.source:
        from agentlightning.trainer.config import config_from
        from agentlightning.trainer.resolve import load_agent

        section = {key: word for key, word in origin.source.items() if key != "base_dir"}
        return load_agent(config_from({"agent": section}, Path(origin.source["base_dir"]))).agent
    found = pickle.loads(origin.pickled) if origin.pickled else _named(origin.module, origin.name)
    agent = found if isinstance(found, WrappedAgent) else wrap_agent(found, origin.adapter)
    if origin.around:
        set_up, tear_down = pickle.loads(origin.around)
        agent.surround(set_up=set_up, tear_down=tear_down)
    return agent


def _pickled(agent: WrappedAgent, value: Any, what: str) -> bytes:
    try:
        pickled = pickle.dumps(value)
    except Exception as error:
        raise AgentError(_not_found(what, _why_not(value, error))) from error
    if b"__main__" in pickled and not _can_be_imported(sys.modules["__main__"]):  # by name, and the name is nowhere
        raise AgentError(_not_found(what, _TYPED))
    return pickled


def _named(module: str, name: str) -> Any:
    found: Any = sys.modules["__main__"] if module == "__main__" else importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _names_of(agent: WrappedAgent) -> Iterator[tuple[str, str]]:
    """Modules that can be imported again, and the name under which they hold the agent or its wrapped form."""
    plain = agent.agent
    own = getattr(plain, "__module__", None)
    first = [module for name in (own, "__main__") if (module := sys.modules.get(str(name))) is not None]
    for module in [*first, *list(sys.modules.values())]:
        if not _can_be_imported(module):
            continue
        for name, value in list(vars(module).items()):
            # asked by `type`: other people's objects may do things when they are asked for their class
            if value is plain or (type(value) is WrappedAgent and value.agent is plain):
                yield module.__name__, name


def _can_be_imported(module: Any) -> bool:
    """Not a notebook's `__main__`, nor one that was made by hand."""
    if not isinstance(module, ModuleType) or not getattr(module, "__file__", None):
        return False
    if module.__name__ == "__main__":
        return Path(str(module.__file__)).is_file() or module.__spec__ is not None
    return module.__spec__ is not None and not module.__name__.startswith("agentlightning_user_")


def _why_not(value: Any, error: Exception) -> str:
    if getattr(value, "__module__", None) == "__main__" and not _can_be_imported(sys.modules["__main__"]):
        return _TYPED
    return f"it is no variable of a module, and cannot be pickled ({type(error).__name__}: {error})"


def _not_found(what: str, why: str) -> str:
    return (
        f"isolation: process runs the agent in worker processes, and they cannot find {what}: {why}.\n"
        "    Define it (or, for an agent, a function without parameters that makes it) at the top of a file, and wrap "
        "that, or name it as agent.path; or use isolation: thread."
    )
