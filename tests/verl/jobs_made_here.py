"""What tests of the verl hand-over share: a small job, and a server manager of verl's kind that samples on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentlightning.engine.base import HandedTask, Handoff
from agentlightning.engine.verl.configuration import JobPlan

CONTEXT = 256
ON_CPU = {
    "trainer.device": "cpu",
    "actor_rollout_ref.rollout.name": "sglang",
    "actor_rollout_ref.rollout.agent.num_workers": 2,
    "reward.num_workers": 1,
    "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
    "ray_kwargs.ray_init.num_cpus": 16,
}
"""verl checks a LoRA rank for vLLM by importing it, which no machine without a GPU can: its other back end is named."""


def small_work(folder: Path, **changes: Any) -> Handoff:
    """Twelve tasks, two validation tasks, six rounds of four tasks."""
    given: dict[str, Any] = {
        "adapter": "small",
        "start": "",
        "method": "grpo",
        "training": [HandedTask(f"t{i}", f"say {i}") for i in range(12)],
        "validation": [HandedTask(f"v{i}", f"say {i}") for i in range(2)],
        "group_size": 3,
        "batch_size": 4,
        "num_rounds": 6,
        "num_minibatches": 2,
        "learning_rate": 1e-4,
        "temperature": 1.0,
        "max_weight": 2.0,
        "evaluate_every": 3,
        "folder": folder,
    }
    return Handoff(**given | changes)


def small_plan(model: str, **changes: Any) -> JobPlan:
    given: dict[str, Any] = {"rank": 8, "alpha": 16.0, "gpus": 2, "max_context_tokens": CONTEXT, "overrides": ON_CPU}
    return JobPlan(model=model, **given | changes)


class CpuServer:
    """In the place of verl's `LLMServerClient`: the same call, answered by transformers in the worker itself, with the
    adapter that lies in `adapter` when it is asked."""

    def __init__(self, model: str, adapter: str) -> None:
        self.model = model
        self.adapter = Path(adapter)
        self._loaded: Any = None
        self._age = 0.0

    def _now(self) -> Any:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        age = self.adapter.stat().st_mtime_ns
        if age != self._age:
            torch.set_num_threads(1)
            tensors = torch.load(self.adapter)
            rank = next(value.shape[0] for name, value in tensors.items() if "lora_A" in name)
            base = AutoModelForCausalLM.from_pretrained(self.model)
            settings = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
            self._loaded = get_peft_model(base, settings).eval()
            self._loaded.load_state_dict(tensors, strict=False)
            self._age = age
        return self._loaded

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> Any:
        import torch
        from verl.workers.rollout.replica import TokenOutput

        model, ids, logprobs = self._now(), list(prompt_ids), list[float]()
        luck = torch.Generator().manual_seed(sampling_params["seed"] % 2**31)
        assert sampling_params["ignore_eos"] and sampling_params["logprobs"]
        temperature = sampling_params["temperature"]
        for _ in range(sampling_params["max_tokens"]):
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1].float()
            told = torch.log_softmax(logits / (temperature or 1.0), -1)
            drawn = int(torch.multinomial(told.exp(), 1, generator=luck)) if temperature else int(told.argmax())
            ids.append(drawn)
            logprobs.append(float(told[drawn]))
            if drawn in sampling_params["stop_token_ids"]:
                break
        return TokenOutput(token_ids=ids[len(prompt_ids) :], log_probs=logprobs, stop_reason="completed")
