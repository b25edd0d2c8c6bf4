"""Worked examples from the agent's own best runs: no optimiser model is needed to find them.

Chosen for reward first, then for coverage: each next example is the passed run least like those already chosen.
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Sequence

from agentlightning.algorithms.apo.evidence import Run, likeness
from agentlightning.algorithms.apo.search import Candidate
from agentlightning.algorithms.base import Session
from agentlightning.data.call import message_text
from agentlightning.data.resource import Demo, Policy
from agentlightning.data.trajectory import Trajectory

AUTO = 4
_MAX_LENGTH = 4000
"""Characters of an example; a longer one would push aside what it stands beside."""


class DemoPool:
    """The passed runs seen so far, and candidates that show some of them."""

    def __init__(self, session: Session, count: int | None) -> None:
        self.count = min(AUTO, max(1, len(session.training_tasks) // 3)) if count is None else count
        """Where there are few tasks, fewer: those that are shown cannot judge."""
        self._session = session
        self._passed: dict[str, Trajectory] = {}
        self._tried: set[str] = set()
        self._num_drawn = 0

    def add(self, runs: Iterable[Run]) -> None:
        """Remember the passed ones, one per task."""
        self._passed |= {run.trajectory.task: run.trajectory for run in runs if not run.is_failed}

    def candidates(self, parent: Policy, number: int, judges: Container[str]) -> list[Candidate]:
        """Up to `number` different choices of examples, none of them from a task that will judge them."""
        pool = [t for task, t in self._passed.items() if task not in judges]
        found: list[Candidate] = []
        for _ in range(number if self.count else 0):
            rng = random.Random(f"{self._session.seed}/demos/{self._num_drawn}")
            self._num_drawn += 1
            policy = _with_examples(parent, pool, self._session.agents, self.count, rng)
            if policy.id != parent.id and policy.id not in self._tried:
                self._tried.add(policy.id)
                told = f"show {sum(map(len, policy.demos.values()))} worked examples from good runs"
                found.append(Candidate(policy, parent, told, operator="demos"))
        return found

    def tasks_shown(self, candidate: Candidate) -> set[str]:
        """The tasks its examples come from, which must not judge it."""
        shown = [(agent, demo) for agent, demos in candidate.policy.demos.items() for demo in demos]
        return {task for task, t in self._passed.items() if any(demo_of(t, agent) == demo for agent, demo in shown)}


def _with_examples(
    policy: Policy, pool: Sequence[Trajectory], agents: Sequence[str], count: int, rng: random.Random
) -> Policy:
    for agent in agents:
        if demos := choose(pool, agent, count, rng):
            policy = policy.with_demos(agent, demos)
    return policy


def choose(pool: Sequence[Trajectory], agent: str, count: int, rng: random.Random) -> list[Demo]:
    """Up to `count` examples of one agent, from the runs with the best reward."""
    usable = [(t, demo) for t in rng.sample(pool, len(pool)) if (demo := demo_of(t, agent))]
    best = max((t.reward or 0.0 for t, _ in usable), default=0.0)
    usable = [(t, demo) for t, demo in usable if t.reward == best]
    chosen = usable[:1]
    while len(chosen) < min(count, len(usable)):
        rest = [pair for pair in usable if pair not in chosen]
        chosen.append(min(rest, key=lambda pair: max(likeness(pair[0], other) for other, _ in chosen)))
    return [demo for _, demo in chosen]


def demo_of(t: Trajectory, agent: str) -> Demo | None:
    """What the agent was asked last and what it answered in the end; None where either is missing or too long."""
    steps = [step for step in t.model_steps if step.agent == agent and step.call and step.reply and step.reply.text]
    if not steps or steps[-1].call is None or steps[-1].reply is None:
        return None
    asked = [message_text(message) for message in steps[-1].call.messages if message.get("role") == "user"]
    given = next((text for text in reversed(asked) if text.strip()), "")
    answered = steps[-1].reply.text
    return Demo(given, answered) if given and len(given) + len(answered) <= _MAX_LENGTH else None
