"""What can be known of the Unsloth engine without a GPU: whom it turns away, and how."""

from __future__ import annotations

import pytest

from agentlightning.engine.base import ENGINES
from agentlightning.errors import ConfigError


def test_a_machine_without_a_gpu_is_sent_to_the_torch_engine() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.fail("this test is for machines without a GPU; run them with CUDA_VISIBLE_DEVICES= set")
    with pytest.raises(ConfigError, match="engine: torch"):
        ENGINES.load("unsloth")("some/model")
