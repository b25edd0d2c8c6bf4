"""One reward for the team, shared out among its agents. Pure arithmetic; who runs counterfactual rollouts decides when.

shared      everybody gets the team's reward. Unbiased: what raises an agent's reward raises the team's. Noisy: an agent
            is paid for what the others did, the more so the larger the team
mixed       a part of the team's reward and a part of the agent's own. Less noisy, and biased: an agent may gain by
            raising its own reward at the team's expense, by as much as its own part weighs
difference  the team's reward minus what the team gets without this agent's contribution (difference rewards, Wolpert
            and Tumer, arXiv cs/9908014). Raising it raises the team's reward, for any baseline the agent cannot touch;
            the baseline takes the others' luck out only as far as the counterfactual rollout shares it. An average of
            few counterfactuals is unbiased and noisy itself; one that failed leaves the agent without a reward
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from agentlightning.errors import ConfigError, DataError

Cooperation = Literal["shared", "mixed", "difference"]


class Share(msgspec.Struct, frozen=True):
    """What one agent gets, and why."""

    value: float
    reason: str


def shared(team: float, agents: Sequence[str]) -> dict[str, Share]:
    """The team's reward, for everybody."""
    value = _finite(team, "the team's reward")
    return {agent: Share(value, f"the team's reward {value:.3g}") for agent in agents}


def mixed(team: float, own: Mapping[str, float], agents: Sequence[str], *, own_weight: float = 0.5) -> dict[str, Share]:
    """(1 − own_weight) × the team's reward + own_weight × the agent's own.

    Both should be on one scale. An agent whose own reward is not known is left out: it has no mixed reward, and is not
    given a zero for its part.
    """
    if not 0 <= own_weight <= 1:
        raise ConfigError(
            f"own_weight is a number from 0 (shared) to 1 (everybody for themselves), not {own_weight!r}."
        )
    value = _finite(team, "the team's reward")
    found: dict[str, Share] = {}
    for agent in agents:
        if agent in own:
            part = _finite(own[agent], f"the own reward of {agent}")
            said = f"{1 - own_weight:.3g} × the team's {value:.3g} + {own_weight:.3g} × its own {part:.3g}"
            found[agent] = Share((1 - own_weight) * value + own_weight * part, said)
    return found


def difference(team: float, without: Mapping[str, Sequence[float | None]], agents: Sequence[str]) -> dict[str, Share]:
    """The team's reward minus its mean reward in counterfactual rollouts without the agent's contribution.

    `without`: agent → rewards of rollouts of the same task in which that agent was replaced (by its original prompt or
    weights, or by nothing) and the others were not. An agent without a judged one is left out. Zero means that the
    team does as well without it; below zero, that it is in the way.
    """
    value = _finite(team, "the team's reward")
    found: dict[str, Share] = {}
    for agent in agents:
        seen = [
            _finite(reward, f"a counterfactual of {agent}") for reward in without.get(agent, []) if reward is not None
        ]
        if seen:
            baseline = math.fsum(seen) / len(seen)
            said = f"the team's {value:.3g} − {baseline:.3g} without it ({len(seen)} counterfactual rollouts)"
            found[agent] = Share(value - baseline, said)
    return found


def share_out(
    cooperation: Cooperation,
    team: float,
    agents: Sequence[str],
    *,
    own: Mapping[str, float] | None = None,
    without: Mapping[str, Sequence[float | None]] | None = None,
    own_weight: float = 0.5,
) -> dict[str, Share]:
    """Agent → its reward, by one of the three rules. ConfigError when what the rule needs was not given."""
    if cooperation == "shared":
        return shared(team, agents)
    if cooperation == "mixed":
        if own is None:
            raise ConfigError("cooperation: mixed needs the agents' own rewards: emit_reward(…, name=<agent>).")
        return mixed(team, own, agents, own_weight=own_weight)
    if cooperation == "difference":
        if without is None:
            raise ConfigError(
                "cooperation: difference needs counterfactual rollouts: one without each agent, per task."
            )
        return difference(team, without, agents)
    raise ConfigError(f"cooperation is shared, mixed or difference; not {cooperation!r}.")


def _finite(number: float, what: str) -> float:
    if not math.isfinite(number):
        raise DataError(f"{what} is {number!r}, which is no reward. A rollout that failed to be judged is left out.")
    return float(number)
