"""What would be optimised? Runs an agent on a few tasks and tells what was seen, before anything is learned.

Needs no reward. Shows the agents that spoke, their models, prompt sites with templates and slots, tools, and how
completely the calls were captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from agentlightning.data.resource import PromptSite
from agentlightning.data.structure import Structure
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import AgentError
from agentlightning.interception.sites import discover_sites
from agentlightning.trainer.bench import ORIGINAL, Bench
from agentlightning.trainer.observed import observed_calls
from agentlightning.trainer.plan import warnings_before
from agentlightning.trainer.rollouts import SHARED_STAGE, agent_error
from agentlightning.trainer.tapes import fill_tape


class Health(msgspec.Struct, frozen=True):
    """How completely the agent's calls were captured."""

    num_rollouts: int
    num_failed_rollouts: int
    num_calls: int
    num_failed_calls: int
    num_without_usage: int
    """Answered calls whose token counts are not known, so that budgets in tokens and money do not see them."""
    num_partial: int
    """Streams that were not read to their end."""
    warnings: list[str] = []
    """What does not work as it should with this agent or its framework's version, and tools that seem to write."""


class Inspection(msgspec.Struct, frozen=True):
    """What an inspection saw."""

    agent_id: str
    framework: str
    """How the agent is run: the name of its adapter."""
    agents: dict[str, dict[str, int]]
    """Agent → model → calls."""
    sites: list[PromptSite]
    unusable: list[tuple[PromptSite, str]]
    """Sites that would be left alone, and why."""
    tools: dict[str, int]
    """Tool → calls seen; 0 for those that were only offered."""
    writing_tools: list[str]
    health: Health
    structure: Structure
    """How the agent is built."""

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return msgspec.json.encode(self).decode()


async def inspect_agent(bench: Bench, tasks: Sequence[Task]) -> Inspection:
    """Run the original agent once on each task and look. AgentError or ModelError when there is nothing to see."""
    try:
        silent = await fill_tape(bench.tools, bench.store)
        await bench.try_out(tasks)
        groups = await bench.rollouts.groups(tasks, policy=ORIGINAL, split="train", stage=SHARED_STAGE)
    except BaseException as error:
        await bench.ended_by(error)
        raise
    finally:
        await bench.close()
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    if error := agent_error(trajectories):
        raise error
    calls = list(observed_calls(trajectories))
    if not calls:
        raise AgentError("the agent made no model call that leaves through httpx, requests or aiohttp.")
    report = discover_sites(calls)
    return Inspection(
        agent_id=bench.agent.agent_id,
        framework=bench.agent.adapter.name,
        agents=_agents(trajectories),
        sites=report.sites,
        unusable=report.unusable,
        tools=_tools(trajectories),
        writing_tools=bench.agent.writing_tools(),
        health=_health(trajectories, [*warnings_before(bench.agent), *silent, *_failures(trajectories)]),
        structure=bench.agent.adapter.structure(),
    )


def _agents(trajectories: Sequence[Trajectory]) -> dict[str, dict[str, int]]:
    agents: dict[str, Counter[str]] = {}
    for trajectory in trajectories:
        for step in trajectory.model_steps:
            agents.setdefault(step.agent, Counter())[step.call.model if step.call else "?"] += 1
    return {name: dict(models) for name, models in agents.items()}


def _tools(trajectories: Sequence[Trajectory]) -> dict[str, int]:
    seen: Counter[str] = Counter()
    for trajectory in trajectories:
        for step in trajectory.steps:
            if step.kind == "tool" and step.name:
                seen[step.name] += 1
            for tool in step.call.tools if step.call else []:
                seen[str((tool.get("function") or tool).get("name"))] += 0
    return dict(seen)


def _failures(trajectories: Sequence[Trajectory]) -> list[str]:
    """The errors that rollouts ended with, each once with how often."""
    counts = Counter(trajectory.error or "no reason" for trajectory in trajectories if trajectory.status == "failed")
    return [f"{count} of {len(trajectories)} rollouts failed: {error[:300]}" for error, count in counts.most_common(3)]


def _health(trajectories: Sequence[Trajectory], warnings: list[str]) -> Health:
    steps = [step for trajectory in trajectories for step in trajectory.model_steps]
    return Health(
        num_rollouts=len(trajectories),
        num_failed_rollouts=sum(trajectory.status == "failed" for trajectory in trajectories),
        num_calls=len(steps),
        num_failed_calls=sum(step.error is not None for step in steps),
        num_without_usage=sum(step.reply is not None and step.reply.usage is None for step in steps),
        num_partial=sum(step.is_partial for step in steps),
        warnings=warnings,
    )
