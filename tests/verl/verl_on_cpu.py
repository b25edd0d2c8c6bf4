"""verl's own synchronous trainer on a CPU, for tests: its loop, data sets, agent loops, TransferQueue, replay buffer,
advantages and losses are verl's. Only what verl has for GPUs alone is written here: the workers that hold the model,
and the servers that sample from it.

Run in the place of `verl.trainer.main_ppo`:  verl_on_cpu.py --config-dir FOLDER --config-name job
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensordict import TensorDict
from tests.verl.jobs_made_here import CpuServer
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.py_functional import rename_dict

from agentlightning.engine.verl.child import watch_parent

FIELDS = ["prompts", "responses", "response_mask", "advantages", "old_log_probs"]


class LocalActor:
    """A base model with one adapter, which learns by verl's loss and is saved in the layout of verl's FSDP workers."""

    def __init__(self, config: Any, shared: Path) -> None:
        from peft import LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM

        self._dispatch_info = {"actor": [0]}
        self._config, self._shared = config, shared
        self._actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        given = config.actor_rollout_ref.model
        base = AutoModelForCausalLM.from_pretrained(given.path)
        if given.lora_adapter_path:
            self.model: Any = PeftModel.from_pretrained(base, given.lora_adapter_path, is_trainable=True)
        else:
            settings = {"r": given.lora_rank, "lora_alpha": given.lora_alpha, "target_modules": given.target_modules}
            self.model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.AdamW(learned, lr=self._actor.optim.lr, weight_decay=0.0)

    def logprobs(self, prompts: Any, responses: Any) -> list[Any]:
        """Of each row's response, one row at a time: rows have lengths of their own."""
        temperature, found = self._config.actor_rollout_ref.rollout.temperature, []
        for prompt, response in zip(prompts.unbind(), responses.unbind(), strict=True):
            ids = torch.cat([prompt, response])
            logits = self.model(ids[None]).logits[0, len(prompt) - 1 : -1] / temperature
            found.append(torch.log_softmax(logits.float(), -1).gather(1, response[:, None])[:, 0])
        return found

    def update(self, data: TensorDict) -> dict[str, float]:
        mask = data["response_mask"]
        told = torch.nested.as_nested_tensor(self.logprobs(data["prompts"], data["responses"]), layout=torch.jagged)
        padded = [each.to_padded_tensor(0) for each in (data["old_log_probs"], told, data["advantages"], mask)]
        width = padded[0].shape[1]
        old, new, advantages, trained = (each[:, :width] for each in padded)
        compute = get_policy_loss_fn(self._actor.policy_loss.loss_mode)
        loss, figures = compute(
            old_log_prob=old,
            log_prob=new,
            advantages=advantages,
            response_mask=trained,
            loss_agg_mode=self._actor.loss_agg_mode,
            config=self._actor,
        )
        self._optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._actor.grad_clip)
        self._optimiser.step()
        return {**figures, "grad_norm": float(norm), "pg_loss": float(loss)}

    def publish(self) -> None:
        """What the servers read before their next answer."""
        draft = self._shared.with_suffix(".draft")
        torch.save({name: value for name, value in self.model.state_dict().items() if "lora_" in name}, draft)
        draft.replace(self._shared)

    def save_checkpoint(self, path: str, *_: Any, **__: Any) -> None:
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        adapter = {name: value for name, value in self.model.state_dict().items() if "lora_" in name}
        torch.save(adapter, folder / "model_world_size_1_rank_0.pt")
        torch.save(self._optimiser.state_dict(), folder / "optim_world_size_1_rank_0.pt")
        (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 1, "world_size": 1}))
        own = self.model.peft_config["default"]
        meta = {"r": own.r, "lora_alpha": own.lora_alpha, "task_type": "CAUSAL_LM"}
        (folder / "lora_train_meta.json").write_text(json.dumps(meta))
        base = Path(self._config.actor_rollout_ref.model.path)
        shutil.copytree(base, folder / "huggingface", ignore=shutil.ignore_patterns("*.safetensors"))

    def load_checkpoint(self, local_path: str, **_: Any) -> None:
        folder = Path(local_path)
        self.model.load_state_dict(torch.load(folder / "model_world_size_1_rank_0.pt"), strict=False)
        self._optimiser.load_state_dict(torch.load(folder / "optim_world_size_1_rank_0.pt"))


@dataclass
class Rewards:
    """There is no reward worker: every reward comes with its rollout."""

    reward_loop_worker_handles: tuple[Any, ...] = ()


class CpuTrainer(PPOTrainerSync):
    """verl's synchronous trainer over the actor above."""

    def _setup(self) -> None:
        self._init_tokenizer()
        self._init_dataloader()
        self._init_dump_executor()
        self.distillation_config = None
        self.reward_loop_manager = Rewards()
        shared = Path(self.config.trainer.default_local_dir).parent / "adapter.pt"
        self.actor_rollout_wg = LocalActor(self.config, shared)
        self.client = CpuServer(self.config.actor_rollout_ref.model.path, str(shared))
        self._load_checkpoint()

    def get_llm_client(self) -> Any:
        return self.client

    def on_init_end(self) -> None:
        self.actor_rollout_wg.publish()

    def on_step_end(self) -> None:
        self.actor_rollout_wg.publish()

    def on_sample_end(self) -> None:
        return

    def _get_n_gpus_for_throughput(self) -> int:
        return 1

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        data = tq.kv_batch_get(batch.keys, partition_id=batch.partition_id, select_fields=FIELDS[:3])
        with torch.no_grad():
            told = self.actor_rollout_wg.logprobs(data["prompts"], data["responses"])
        nested = torch.nested.as_nested_tensor(told, layout=torch.jagged)
        fields = TensorDict({"old_log_probs": nested}, batch_size=len(batch))
        return tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        data = tq.kv_batch_get(batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
        metrics.update(rename_dict(self.actor_rollout_wg.update(data), "actor/"))
        return batch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config-dir", required=True)
    parser.add_argument("--config-name", required=True)
    given = parser.parse_args()
    watch_parent()
    torch.set_num_threads(1)
    with initialize_config_dir(given.config_dir, version_base=None):
        config = compose(given.config_name, overrides=["hydra.searchpath=[pkg://verl.trainer.config]"])
    environment = OmegaConf.merge(get_ppo_ray_runtime_env(config), config.ray_kwargs.ray_init.runtime_env)
    ray.init(num_cpus=config.ray_kwargs.ray_init.num_cpus, runtime_env=OmegaConf.to_container(environment))
    config.transfer_queue.enable = True
    OmegaConf.resolve(config)
    tq.init(config.transfer_queue)
    try:
        trainer = CpuTrainer(config=config)
        trainer.init()
        trainer.fit(AgentLoopManagerTQ.create(config=config, llm_client=trainer.get_llm_client()))
    finally:
        tq.close()
        ray.shutdown()


if __name__ == "__main__":
    main()
