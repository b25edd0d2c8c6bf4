"""Agent Lightning: make AI agents that already run measurably better, without changing their code.

Names are loaded when first used, so importing this package imports no framework, no SDK and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentlightning.adapters.wrap import WrappedAgent, agent, last_rollout_id, wrap_agent
    from agentlightning.algorithms.base import BaseAlgorithm, Session
    from agentlightning.data.call import Call, Reply
    from agentlightning.data.resource import Demo, Policy, PromptSite
    from agentlightning.data.task import Task
    from agentlightning.data.trajectory import Reward, Step, Trajectory
    from agentlightning.interception.scope import emit_reward
    from agentlightning.interception.tools import step
    from agentlightning.rewards.base import reward
    from agentlightning.store.open import open_store
    from agentlightning.trainer.callbacks import Callback
    from agentlightning.trainer.live import feedback
    from agentlightning.trainer.result import TrainingResult
    from agentlightning.trainer.tasks import load_tasks
    from agentlightning.trainer.trainer import Trainer, load_optimized_agent

__version__ = "0.1.0"

_HOMES = {
    "BaseAlgorithm": "algorithms.base",
    "Call": "data.call",
    "Callback": "trainer.callbacks",
    "Demo": "data.resource",
    "Policy": "data.resource",
    "PromptSite": "data.resource",
    "Reply": "data.call",
    "Reward": "data.trajectory",
    "Session": "algorithms.base",
    "Step": "data.trajectory",
    "Task": "data.task",
    "Trainer": "trainer.trainer",
    "TrainingResult": "trainer.result",
    "Trajectory": "data.trajectory",
    "WrappedAgent": "adapters.wrap",
    "agent": "adapters.wrap",
    "emit_reward": "interception.scope",
    "feedback": "trainer.live",
    "last_rollout_id": "adapters.wrap",
    "load_optimized_agent": "trainer.trainer",
    "load_tasks": "trainer.tasks",
    "open_store": "store.open",
    "reward": "rewards.base",
    "step": "interception.tools",
    "wrap_agent": "adapters.wrap",
}

__all__ = [
    "BaseAlgorithm",
    "Call",
    "Callback",
    "Demo",
    "Policy",
    "PromptSite",
    "Reply",
    "Reward",
    "Session",
    "Step",
    "Task",
    "Trainer",
    "TrainingResult",
    "Trajectory",
    "WrappedAgent",
    "agent",
    "emit_reward",
    "feedback",
    "last_rollout_id",
    "load_optimized_agent",
    "load_tasks",
    "open_store",
    "reward",
    "step",
    "wrap_agent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agentlightning' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"agentlightning.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
