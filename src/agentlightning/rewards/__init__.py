"""How good was a rollout? Functions of a task and its trajectory, by name.

One that needs no model is enough for most tasks; `rewards/judge.py` asks a model where there is no expected answer.
"""

from agentlightning.registry import Registry

REWARDS = Registry(
    "reward",
    {
        "expected_match": "agentlightning.rewards.matching:expected_match",
        "exact_match": "agentlightning.rewards.matching:exact_match",
        "contains": "agentlightning.rewards.matching:contains",
        "fuzzy_match": "agentlightning.rewards.matching:fuzzy_match",
        "numeric_match": "agentlightning.rewards.matching:numeric_match",
        "json_valid": "agentlightning.rewards.matching:json_valid",
        "task_success_rate": "agentlightning.rewards.matching:task_success_rate",
    },
)
