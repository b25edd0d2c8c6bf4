"""What is handed over, in verl's own words: its whole configuration, its task tables, its agent loop.

Written as a YAML file on top of verl's `ppo_trainer`, so verl's own code composes and checks it. What verl does
otherwise than `rl` does here is refused, not approximated; docs/verl.md lists it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from agentlightning.engine.base import HandedTask, Handoff
from agentlightning.errors import ConfigError

LOOP = "agentlightning"
NAME = "job"
"""Of the configuration file, without its ending."""
_PROMPT_SHARE = 0.5
"""Of the context, in verl's settings. Rows are not padded to it, so only the sum counts."""
_METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"loss_agg_mode": "seq-mean-token-mean"},
    "dr_grpo": {"loss_agg_mode": "seq-mean-token-sum-norm"},
    "gspo": {"loss_agg_mode": "seq-mean-token-mean", "policy_loss": {"loss_mode": "gspo"}},
    "cispo": {"loss_agg_mode": "token-mean", "policy_loss": {"loss_mode": "cispo"}},
}
"""Method → what of verl's actor makes it. All compare a rollout with its group."""


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows beside what is handed over."""

    model: str
    rank: int
    alpha: float
    gpus: int
    max_context_tokens: int
    gpu_memory_share: float = 0.5
    saves_memory: bool = True
    """Compute activations again instead of keeping them."""
    overrides: Mapping[str, Any] = {}
    """verl's own settings by dotted name; they are put over everything else."""


class Place(msgspec.Struct, frozen=True):
    """Where a job's files lie."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / f"{NAME}.yaml"

    @property
    def loop(self) -> Path:
        return self.folder / "agent_loop.yaml"

    @property
    def key(self) -> Path:
        return self.folder / "desk.key"

    @property
    def code(self) -> Path:
        """On the child's path: our package and nothing beside it."""
        return self.folder / "code"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def adapters(self) -> Path:
        return self.folder / "adapters"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.folder / "verl.log"

    def tasks(self, split: str) -> Path:
        return self.folder / f"{split}.jsonl"

    def latest(self) -> int:
        """Learning rounds that are saved whole."""
        note = self.checkpoints / "latest_checkpointed_iteration.txt"
        return int(note.read_text(encoding="utf-8")) if note.is_file() else 0


def write(work: Handoff, plan: JobPlan, place: Place, *, desk: str, start: Path | None) -> None:
    """All files but the key. `start`: the adapter to begin from, None for a fresh one."""
    place.folder.mkdir(parents=True, exist_ok=True)
    _write_tasks(place.tasks("train"), work.training, "train")
    _write_tasks(place.tasks("validation"), work.validation, "validation")
    loop = {"name": LOOP, "_target_": "agentlightning.engine.verl.loop.AgentLoop"}
    place.loop.write_text(yaml.safe_dump([loop | {"desk": desk, "key_file": str(place.key)}]), encoding="utf-8")
    place.config.write_text(_HEADER + yaml.safe_dump(settings(work, plan, place, start), sort_keys=False), "utf-8")


_HEADER = "# Written by Agent Lightning for verl; written again each time the job is started.\n"


def settings(work: Handoff, plan: JobPlan, place: Place, start: Path | None = None) -> dict[str, Any]:
    """verl's configuration as a tree. ConfigError for what verl cannot do, with the arithmetic."""
    made = {
        "defaults": ["ppo_trainer", "_self_"],
        "hydra": {"run": {"dir": str(place.folder)}, "output_subdir": None, "job": {"chdir": False}},
        "data": _data(work, plan, place),
        "algorithm": _algorithm(work),
        "actor_rollout_ref": {
            "model": _model(plan, start),
            "actor": _actor(work, plan),
            "rollout": _rollout(work, plan, place),
        },
        "critic": {"enable": False},
        "trainer": _trainer(work, plan, place),
        "ray_kwargs": {"ray_init": {"runtime_env": {"env_vars": {"PYTHONPATH": str(place.code)}}}},
    }
    for name, value in plan.overrides.items():
        _put(made, name, value)
    return made


def batch_size(work: Handoff) -> int:
    """Tasks in a learning round: verl drops the rest of an epoch that fills none."""
    return min(work.batch_size, len(work.training))


def _data(work: Handoff, plan: JobPlan, place: Place) -> dict[str, Any]:
    if not work.validation:
        raise ConfigError("engine verl needs validation tasks: give more tasks, or tasks.validation.")
    return {
        "train_files": str(place.tasks("train")),
        "val_files": str(place.tasks("validation")),
        "train_batch_size": batch_size(work),
        "max_prompt_length": _prompt_share(plan),
        "max_response_length": plan.max_context_tokens - _prompt_share(plan),
        "shuffle": True,
        "seed": work.seed,
        "dataloader_num_workers": 0,
        "filter_overlong_prompts": False,
    }


def _algorithm(work: Handoff) -> dict[str, Any]:
    correction = {"rollout_is": None}
    if work.max_weight is not None:
        correction = {"rollout_is": "token", "rollout_is_threshold": work.max_weight}
    return {
        "adv_estimator": "grpo",
        "norm_adv_by_std_in_grpo": work.method != "dr_grpo",
        "use_kl_in_reward": False,
        "rollout_correction": correction,
    }


def _model(plan: JobPlan, start: Path | None) -> dict[str, Any]:
    return {
        "path": plan.model,
        "lora_rank": plan.rank,
        "lora_alpha": int(plan.alpha),
        "target_modules": "all-linear",
        "lora_adapter_path": str(start) if start is not None else None,
        "enable_gradient_checkpointing": plan.saves_memory,
        "use_remove_padding": True,
    }


def _actor(work: Handoff, plan: JobPlan) -> dict[str, Any]:
    if work.method not in _METHODS:
        raise ConfigError(
            f"engine verl has no {work.method!r} that counts rollouts and not rows. Use {', '.join(_METHODS)}, or "
            "engine: torch or vllm, which have them all."
        )
    clip = dict(zip(("clip_ratio_low", "clip_ratio_high"), work.clip, strict=True)) if work.clip else {}
    scale = {"loss_scale_factor": plan.max_context_tokens} if work.method == "dr_grpo" else {}
    return {
        **_METHODS[work.method],
        **clip,
        **scale,
        "ppo_mini_batch_size": _minibatch(work),
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": max(work.max_tokens_per_pass, plan.max_context_tokens),
        "grad_clip": work.max_grad_norm,
        "entropy_coeff": work.entropy,
        "use_kl_loss": work.kl > 0,
        "kl_loss_coef": work.kl,
        "optim": _optimiser(work),
        "checkpoint": {"save_lora_only": True},
    }


def _minibatch(work: Handoff) -> int:
    whole = batch_size(work)
    if whole % work.num_minibatches:
        raise ConfigError(
            f"engine verl cuts {whole} tasks into {work.num_minibatches} mini-batches of one size, which does not come "
            "out even. Choose batch_size as a multiple of num_minibatches."
        )
    return whole // work.num_minibatches


def _optimiser(work: Handoff) -> dict[str, Any]:
    """A cosine comes closest to the straight line down to `final_rate`; verl has no straight one."""
    return {
        "lr": work.learning_rate,
        "lr_warmup_steps": work.warmup_steps,
        "weight_decay": work.weight_decay,
        "betas": [0.9, 0.95],
        "lr_scheduler_type": "cosine" if work.final_rate < 1 else "constant",
        "min_lr_ratio": work.final_rate,
    }


def _rollout(work: Handoff, plan: JobPlan, place: Place) -> dict[str, Any]:
    return {
        "name": "vllm",
        "n": work.group_size,
        "temperature": work.temperature,
        "top_p": 1.0,
        "calculate_log_probs": True,
        "tensor_model_parallel_size": 1,
        "gpu_memory_utilization": plan.gpu_memory_share,
        "max_model_len": plan.max_context_tokens,
        "load_format": "safetensors",
        "val_kwargs": {"n": 1, "do_sample": False},
        "agent": {
            "num_workers": min(8, work.group_size * batch_size(work)),
            "default_agent_loop": LOOP,
            "agent_loop_config_path": str(place.loop),
        },
    }


def _trainer(work: Handoff, plan: JobPlan, place: Place) -> dict[str, Any]:
    rounds_per_epoch = len(work.training) // batch_size(work)
    return {
        "n_gpus_per_node": plan.gpus,
        "nnodes": 1,
        "total_training_steps": work.num_rounds,
        "total_epochs": math.ceil(work.num_rounds / rounds_per_epoch),
        "save_freq": work.evaluate_every,
        "test_freq": work.evaluate_every,
        "val_before_train": False,
        "resume_mode": "auto",
        "default_local_dir": str(place.checkpoints),
        "project_name": "agentlightning",
        "experiment_name": work.adapter,
        "logger": ["console", "file"],
        "v1": {"trainer_mode": "sync", "sampler": {"sync_refill_failed_groups": True}},
    }


def _prompt_share(plan: JobPlan) -> int:
    return int(plan.max_context_tokens * _PROMPT_SHARE)


def _write_tasks(path: Path, tasks: Sequence[HandedTask], split: str) -> None:
    """verl's columns. The prompt is for its tables; what the model reads is what the agent sends."""
    rows = [
        {
            "data_source": "agentlightning",
            "prompt": [{"role": "user", "content": task.text}],
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": number, "split": split, "task": task.id},
        }
        for number, task in enumerate(tasks)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *way, last = name.split(".")
    here: Any = tree
    for step in way:
        here = here.setdefault(step, {})
        if not isinstance(here, dict):
            raise ConfigError(f"engine.overrides: {name!r} goes through {step!r}, which is a value and no section.")
    here[last] = value
