"""The methods by name: which advantages, and which of the engine's losses. Each name is an algorithm.

| method      | compares a rollout with             | loss                                                   |
| ----------- | ----------------------------------- | ------------------------------------------------------ |
| grpo        | its group, in standard deviations   | clipped ratio per token, mean per rollout              |
| dr_grpo     | its group's mean                    | the same, divided by a constant instead of the length  |
| rloo        | the others of its group             | REINFORCE, nothing clipped                             |
| reinforce++ | the whole batch                     | clipped ratio                                          |
| ppo         | a critic's expectation at each turn | clipped ratio; the critic is an adapter of its own     |
| cispo       | as grpo                             | REINFORCE weighed by a clipped ratio: no token is lost |
| gspo        | as grpo                             | clipped ratio of whole answers                         |
"""

from __future__ import annotations

from typing import ClassVar

from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.algorithms.rl.algorithm import RL
from agentlightning.algorithms.rl.config import MethodName, RLConfig


class DrGRPOConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "dr_grpo"


class RLOOConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "rloo"


class ReinforcePPConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "reinforce++"


class PPOConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "ppo"


class CISPOConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "cispo"


class GSPOConfig(RLConfig):
    """As `rl`, with the method fixed."""

    method: MethodName = "gspo"


class GRPO(RL):
    """Group relative policy optimisation (arXiv 2402.03300), higher upper clip, no KL by default."""

    name: ClassVar[str] = "grpo"


class DrGRPO(RL):
    """GRPO done right (arXiv 2503.20783): no division by deviation or length."""

    name: ClassVar[str] = "dr_grpo"
    Config: ClassVar[type[AlgorithmConfig]] = DrGRPOConfig


class RLOO(RL):
    """REINFORCE, leave one out (arXiv 2402.14740)."""

    name: ClassVar[str] = "rloo"
    Config: ClassVar[type[AlgorithmConfig]] = RLOOConfig


class ReinforcePP(RL):
    """REINFORCE++ (arXiv 2501.03262)."""

    name: ClassVar[str] = "reinforce++"
    Config: ClassVar[type[AlgorithmConfig]] = ReinforcePPConfig


class PPO(RL):
    """Proximal policy optimisation (arXiv 1707.06347) with a critic that looks at turns, not tokens."""

    name: ClassVar[str] = "ppo"
    Config: ClassVar[type[AlgorithmConfig]] = PPOConfig


class CISPO(RL):
    """Clipped importance weights (MiniMax-M1, arXiv 2506.13585)."""

    name: ClassVar[str] = "cispo"
    Config: ClassVar[type[AlgorithmConfig]] = CISPOConfig


class GSPO(RL):
    """Group sequence policy optimisation (arXiv 2507.18071)."""

    name: ClassVar[str] = "gspo"
    Config: ClassVar[type[AlgorithmConfig]] = GSPOConfig
