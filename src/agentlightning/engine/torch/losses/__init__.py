"""Losses by name. A loss is a frozen struct: its fields are its options, `terms` its formula.

Your own: a struct with `kind`, what it `needs`, and `terms`, registered under the entry point `agentlightning.loss`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentlightning.engine.torch.losses.base import Loss
from agentlightning.errors import ConfigError, near_miss
from agentlightning.registry import Registry

HERE = "agentlightning.engine.torch.losses"

LOSSES = Registry(
    "loss",
    {
        "cross_entropy": f"{HERE}.cross_entropy:CrossEntropy",
        "dpo": f"{HERE}.dpo:DPO",
        "reward_model": f"{HERE}.reward_model:RewardModel",
        "value": f"{HERE}.value:Value",
        "grpo": f"{HERE}.grpo:GRPO",
        "dr_grpo": f"{HERE}.dr_grpo:DrGRPO",
        "rloo": f"{HERE}.rloo:RLOO",
        "reinforce++": f"{HERE}.reinforce_pp:ReinforcePP",
        "ppo": f"{HERE}.ppo:PPO",
        "cispo": f"{HERE}.cispo:CISPO",
        "gspo": f"{HERE}.gspo:GSPO",
    },
)


def load(name: str, options: Mapping[str, Any]) -> Loss:
    """The loss with these options. ConfigError for a name, an option or a value that does not exist."""
    kind = LOSSES.load(name)
    known = kind.__struct_fields__
    for option in options:
        if option not in known:
            hint = near_miss(option, known)
            raise ConfigError(f"loss {name!r} has no option {option!r}.{hint} Its options: {', '.join(sorted(known))}.")
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"loss {name!r}: {error}. Its options: {', '.join(sorted(known))}.") from error
