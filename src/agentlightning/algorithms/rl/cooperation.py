"""What each of several agents is rewarded for, when they win or lose together.

* `shared`: everybody gets the team's reward. Nobody is misled about the goal; but who did nothing is praised as well.
* `mixed`: the team's reward and the agent's own, weighed. Quick where the own rewards are well chosen; where they are
  not, agents learn to please them at the team's expense.
* `difference`: the team's reward is compared with what the team reaches when this agent, and nobody else, has the
  weights it began the stage with. That baseline does not depend on what the agent says now, so nothing is biased; an
  agent whose learning changed nothing gets nothing, even in a group where everybody won. It costs rollouts.

The counterfactual must replace the baseline: subtracted from rewards before a group's mean is, it would cancel out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agentlightning.algorithms.rl.advantages import Standard
from agentlightning.algorithms.rl.play import Play
from agentlightning.data.resource import Policy
from agentlightning.errors import DataError


def mixed(play: Play, own_share: float) -> Play:
    """The play, rewarded for its own part too. DataError when nothing says what that is."""
    own = play.own_reward
    if own is None and play.step_rewards:
        own = sum(play.step_rewards.values())
    if own is None:
        raise DataError(
            f"cooperation: mixed needs a reward of each agent's own, and rollout {play.rollout_id} has none for "
            f"{play.agent}. Say inside the agent how it did: emit_reward(0.5, name={play.agent!r}, metric=True) for "
            "the whole run, or emit_reward(0.5, step=True) for its last answer. Or use cooperation: shared."
        )
    return msgspec.structs.replace(play, reward=(1 - own_share) * play.reward + own_share * own)


def against(standards: Sequence[Standard], counterfactual: float) -> list[Standard]:
    """The same units, measured from what the team reached without what this agent has learned."""
    return [Standard(counterfactual, standard.scale) for standard in standards]


def without_learning(policy: Policy, agent: str, start: Policy) -> Policy | None:
    """The policy with one agent as it began; None where that is the policy itself."""
    changed = policy.with_weights(agent, start.weights.get(agent, ""))
    return None if changed.weights == policy.weights else changed
