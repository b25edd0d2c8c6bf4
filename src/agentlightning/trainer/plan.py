"""What a run is going to do and may cost, in words, before its first call; and what to be warned about."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.trajectory import Trajectory
from agentlightning.models.prices import PRICES_AS_OF
from agentlightning.trainer.budget import Budget
from agentlightning.trainer.config import Config
from agentlightning.trainer.own_models import OwnModels
from agentlightning.trainer.resolve import PlannedStage
from agentlightning.trainer.tasks import TaskSplits
from agentlightning.trainer.wording import counted, dollars

NUM_PREFLIGHT = 2
"""Rollouts that tell whether the agent works at all."""


def describe_plan(
    agent: WrappedAgent,
    config: Config,
    splits: TaskSplits,
    stages: Sequence[PlannedStage],
    models: OwnModels,
    budget: Budget,
) -> list[str]:
    """The plan's lines: agent and tasks, algorithms, rollouts, our own model calls, budget."""
    names = " → ".join(stage.algorithm.name or stage.name for stage in stages)
    epochs, in_flight = config.trainer.max_epochs, config.trainer.max_in_flight
    return [
        f"agent {agent.agent_id} ({agent.adapter.name}), {_tasks(splits)}",
        f"algorithm {names}, {counted(epochs, 'epoch')}, {counted(in_flight, 'rollout')} at a time",
        _rollouts(splits, stages, epochs),
        *_proposals(splits, stages, epochs),
        *filter(None, (stage.algorithm.plan_note() for stage in stages)),
        *_own_models(models),
        f"budget: {budget.describe()}{_prices(config, budget)}",
    ]


def _own_models(models: OwnModels) -> list[str]:
    optimizer, judge = models.describe("optimizer"), models.describe("judge")
    if optimizer == judge:
        return [f"optimiser, and judge where one is needed: {optimizer}"]
    return [f"optimiser: {optimizer}", f"judge, where one is needed: {judge}"]


def _prices(config: Config, budget: Budget) -> str:
    """Which prices a cap in money goes by."""
    if budget.limits.usd is None:
        return ""
    own = ", ".join(config.budget.price_overrides())
    return f" (list prices of {PRICES_AS_OF}{f'; yours for {own}' if own else ''})"


def most_rollouts(stage: PlannedStage, splits: TaskSplits, epochs: int, budget: Budget) -> int | None:
    """How many rollouts a stage will ask for at most, by its algorithm and by what is left to it; None: no telling."""
    asked = stage.algorithm.estimate_rollouts(len(splits.train), len(splits.validation or []), epochs)
    most = min(math.inf if asked is None else asked, budget.calls_left / budget.calls_per_rollout)
    return None if most == math.inf else int(most)


def warnings_before(agent: WrappedAgent) -> list[str]:
    """What its adapter says of it; and tools that change the world, which will do so in every rollout."""
    health = agent.adapter.health()
    writing = [name for name in agent.writing_tools() if name not in agent.tool_modes]
    if not writing:
        return health
    return [
        *health,
        "these tools seem to change things outside the agent, and will be run for real in every rollout: "
        f"{', '.join(writing)}. To prevent it: wrap_agent(…, tools={{{writing[0]!r}: 'stub'}}) (or 'record': once per "
        "arguments).",
    ]


def unguarded(stages: Sequence[PlannedStage]) -> list[str]:
    """What to be told where stages learn against a reward model with nothing that keeps them near what it has seen."""
    free = [stage.name for stage in stages if getattr(stage.algorithm.config, "kl", None) == 0]
    return [
        f"stage {name} learns against a reward model and nothing pulls it back to where it began (kl: 0), so it may "
        "find answers that only the model likes. Set kl in its params (0.01 to 0.1)."
        for name in free
    ]


def _tasks(splits: TaskSplits) -> str:
    if splits.is_cross_fitted and not splits.test:
        return f"{len(splits.train)} tasks: too few to hold any out, so nothing can be proved on them"
    counts = (len(splits.train), len(splits.validation or []), len(splits.test or []))
    return "{} training, {} validation, {} held-out test tasks".format(*counts)


def describe_rollout(
    tried: Sequence[Trajectory], splits: TaskSplits, stages: Sequence[PlannedStage], epochs: int
) -> str:
    """What a rollout takes, by those that were tried, and so all of the plan; empty where no tokens were counted."""
    number = len(tried)
    calls, tokens = sum(len(t.model_steps) for t in tried), sum(t.usage.total_tokens for t in tried)
    prices = [t.usd for t in tried if t.usd is not None]
    if not tokens:
        return ""
    usd = sum(prices) / number if len(prices) == number else None
    searching, test = _search(splits, stages, epochs), _test(splits, stages)

    def cost(num_rollouts: float) -> str:
        money = f" and {dollars(num_rollouts * usd)}" if usd is not None else ""
        return f"{num_rollouts * tokens / number:,.0f} tokens{money}"

    baseline = _baseline(splits)
    per_rollout = f"{calls / number:.3g} {'call' if calls == number else 'calls'}"
    most = f", all rollouts of the plan at most {cost(baseline + searching + test)}" if searching is not None else ""
    return (
        f"by the first {counted(number, 'rollout')} one takes {per_rollout}, {cost(1)}; "
        f"the baseline about {cost(baseline)}{most}"
    )


def _rollouts(splits: TaskSplits, stages: Sequence[PlannedStage], epochs: int) -> str:
    most = _search(splits, stages, epochs)
    search = "unknown" if most is None else f"at most about {most:,}"
    return f"rollouts: baseline {_baseline(splits)}, search {search}, held-out test at most {_test(splits, stages)}"


def _proposals(splits: TaskSplits, stages: Sequence[PlannedStage], epochs: int) -> list[str]:
    most = sum(stage.algorithm.estimate_proposals(len(splits.train), epochs) or 0 for stage in stages)
    return [f"proposals: at most about {most:,} calls of the optimiser, one more for each to be mended"] if most else []


def _baseline(splits: TaskSplits) -> int:
    return len(splits.validation or []) + (0 if splits.is_cross_fitted else NUM_PREFLIGHT)


def _search(splits: TaskSplits, stages: Sequence[PlannedStage], epochs: int) -> int | None:
    counts = [
        stage.algorithm.estimate_rollouts(len(splits.train), len(splits.validation or []), epochs) for stage in stages
    ]
    return None if None in counts else sum(count or 0 for count in counts)


def _test(splits: TaskSplits, stages: Sequence[PlannedStage]) -> int:
    return (1 + len(stages)) * len(splits.test or [])
