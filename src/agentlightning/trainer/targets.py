"""Which agents a run optimises: those that were asked for, checked against those there are.

A framework's object often names its members before the first call; a plain function shows who speaks only when it runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.resource import PromptSite
from agentlightning.errors import ConfigError, near_miss
from agentlightning.trainer.resolve import PlannedStage


def asked_for(target_agents: Sequence[str] | None, stages: Iterable[PlannedStage]) -> list[str]:
    """Every agent the configuration names."""
    named = [*(target_agents or []), *(name for stage in stages for name in stage.agents or [])]
    return list(dict.fromkeys(named))


def check_known(asked: Sequence[str], agent: WrappedAgent) -> None:
    """Before the first call: ConfigError for a name that nobody in this agent can have."""
    if agent.adapter.knows_all_members:
        _refuse_strangers(asked, agent.names(), agent)


def check_seen(asked: Sequence[str], agent: WrappedAgent, seen: Collection[str]) -> list[str]:
    """After the baseline: ConfigError for a name that is neither known nor was heard; a note for who stayed silent."""
    _refuse_strangers(asked, [*agent.names(), *sorted(seen)], agent)
    silent = [name for name in asked if name not in seen]
    return [f"{name} made no model call in the baseline, so nothing can be optimised there." for name in silent]


def targets(asked: Sequence[str] | None, sites: Iterable[PromptSite], agent: WrappedAgent) -> list[str]:
    """The agents of a stage: those asked for, else everybody who has a prompt site, the whole agent first."""
    if asked:
        return list(asked)
    speaking = dict.fromkeys(site.agent for site in sites)
    return sorted(speaking, key=lambda name: name != agent.agent_id) or [agent.agent_id]


def _refuse_strangers(asked: Sequence[str], known: Sequence[str], agent: WrappedAgent) -> None:
    known = list(dict.fromkeys(known))
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"target_agents: there is no agent {name!r} in {agent.agent_id}.{near_miss(name, known)} "
                f"Its agents: {', '.join(known)}."
            )
