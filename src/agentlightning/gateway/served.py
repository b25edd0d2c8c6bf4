"""What the gateway offers to whoever has its token: a policy's agents, each as a model of its own.

A program names the agent it is by the model it asks for, or by a header; where the policy knows one agent only, it need
not. Everything else of the request is steered as in the agent's own process.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agentlightning.data.call import Message
from agentlightning.data.resource import Policy
from agentlightning.errors import DataError
from agentlightning.interception.scope import Predict, Responder, Scope

AGENT_HEADER = "x-agentlightning-agent"


class Served:
    """A policy, who answers for it, and the agents it is for."""

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        predict: Predict | None = None,
        responder: Responder | None = None,
        agents: Sequence[str] = (),
        model: str = "",
    ) -> None:
        self.policy = policy or Policy()
        self.predict = predict
        self.responder = responder
        self.agents = list(dict.fromkeys([*agents, *agents_of(self.policy)]))
        self.model = model
        """What a provider is asked for when a program asks for an agent by its name."""
        self._conversations: dict[str, list[Message]] = {}

    def models(self) -> list[str]:
        """What a program may ask for."""
        return list(dict.fromkeys([*self.agents, *([self.model] if self.model else [])]))

    def scope(self, agent: str | None, model: str) -> Scope:
        """What one request runs in. DataError when it is not clear, but matters, which agent makes it."""
        name = self._agent(agent, model)
        policy = self.policy
        if model in self.agents and self.model and self.responder is None:
            policy = msgspec.structs.replace(policy, models={name: self.model} | policy.models)
        scope = Scope(name, policy=policy, predict=self.predict, responder=self.responder)
        scope.conversations = self._conversations
        return scope

    def _agent(self, agent: str | None, model: str) -> str:
        known = self.agents
        if agent is not None or model in known:
            found = agent or model
        elif len(known) > 1:
            raise DataError(
                f"this endpoint serves {len(known)} agents. Say which one calls: ask for the model "
                f"{' or '.join(map(repr, known))}, or send the header {AGENT_HEADER}."
            )
        else:
            found = known[0] if known else "agent"
        if known and found not in known:
            raise DataError(f"there is no agent {found!r} here. Known: {', '.join(known)}.")
        return found


def agents_of(policy: Policy) -> list[str]:
    """The agents a policy changes."""
    sites = [site.agent for site in policy.sites if site.id in policy.prompts]
    return list(dict.fromkeys([*sites, *policy.weights, *policy.demos, *policy.models, *policy.sampling]))
