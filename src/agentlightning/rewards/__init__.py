"""How good was a rollout? Functions of a task and its trajectory, by name.

One that needs no model is enough for most tasks; `rewards/judge.py` asks a model where there is no expected answer.
Those with settings take them in the configuration: `reward: {name: latency, params: {target_seconds: 2, …}}`.
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
        "json_schema": "agentlightning.rewards.structure:json_schema",
        "task_success_rate": "agentlightning.rewards.matching:task_success_rate",
        "sql_execution": "agentlightning.rewards.execution:sql_execution",
        "code_execution": "agentlightning.rewards.execution:code_execution",
        "tool_use": "agentlightning.rewards.tool_use:tool_use",
        "no_duplicate_calls": "agentlightning.rewards.tool_use:no_duplicate_calls",
        "information_density": "agentlightning.rewards.density:information_density",
        "no_repetition": "agentlightning.rewards.density:no_repetition",
        "latency": "agentlightning.rewards.economy:latency",
        "cost": "agentlightning.rewards.economy:cost",
        "token_cost": "agentlightning.rewards.economy:token_cost",
        "brevity": "agentlightning.rewards.economy:brevity",
        "user_satisfaction": "agentlightning.rewards.satisfaction:UserSatisfaction",
        "user_confirmation_rate": "agentlightning.rewards.satisfaction:UserConfirmationRate",
        "human_feedback": "agentlightning.rewards.satisfaction:HumanFeedback",
        "reward_model": "agentlightning.rewards.learned:LearnedReward",
        "judge": "agentlightning.rewards.judge:JudgeReward",
        "pairwise_judge": "agentlightning.rewards.pairwise:PairwiseReward",
    },
)

ALIASES = {
    "任务成功率": "task_success_rate",
    "用户满意度": "user_satisfaction",
    "用户确认率": "user_confirmation_rate",
    "信息密度": "information_density",
}
"""Chinese names for some, as they stand in Chinese texts about training agents."""
