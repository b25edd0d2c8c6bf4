"""Learning from trajectories: each algorithm asks a session for rollouts and gives back a policy."""

from agentlightning.registry import Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "apo": "agentlightning.algorithms.apo.algorithm:APO",
        "gepa": "agentlightning.algorithms.gepa:GEPA",
        "sft": "agentlightning.algorithms.sft:SFT",
        "dpo": "agentlightning.algorithms.dpo:DPO",
    },
)
