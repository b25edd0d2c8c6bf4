"""Learning from trajectories: each algorithm asks a session for rollouts and gives back a policy."""

from agentlightning.registry import Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "apo": "agentlightning.algorithms.apo.algorithm:APO",
        "gepa": "agentlightning.algorithms.gepa:GEPA",
        "sft": "agentlightning.algorithms.sft:SFT",
        "provider_sft": "agentlightning.algorithms.provider_sft:ProviderSFT",
        "dpo": "agentlightning.algorithms.dpo:DPO",
        "rl": "agentlightning.algorithms.rl.algorithm:RL",
        "grpo": "agentlightning.algorithms.rl.methods:GRPO",
        "dr_grpo": "agentlightning.algorithms.rl.methods:DrGRPO",
        "rloo": "agentlightning.algorithms.rl.methods:RLOO",
        "reinforce++": "agentlightning.algorithms.rl.methods:ReinforcePP",
        "ppo": "agentlightning.algorithms.rl.methods:PPO",
        "cispo": "agentlightning.algorithms.rl.methods:CISPO",
        "gspo": "agentlightning.algorithms.rl.methods:GSPO",
    },
)
