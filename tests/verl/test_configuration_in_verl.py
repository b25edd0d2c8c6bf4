"""What is written for verl is composed, checked and read by verl's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.models_made_here import save_model
from tests.verl.jobs_made_here import CONTEXT, small_plan, small_work

from agentlightning.engine.verl.configuration import NAME, Place, write


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def composed(folder: Path, model: str, plan: dict[str, Any] | None = None, **work: Any) -> Any:
    """The file on top of verl's own, as `verl.trainer.main_ppo --config-dir FOLDER --config-name job` has it."""
    from hydra import compose, initialize_config_dir

    write(small_work(folder, **work), small_plan(model, **plan or {}), Place(folder), desk="http://d", start=None)
    with initialize_config_dir(str(folder), version_base=None):
        return compose(NAME, overrides=["hydra.searchpath=[pkg://verl.trainer.config]"])


@pytest.mark.parametrize("method", ["grpo", "dr_grpo", "gspo", "cispo"])
def test_verl_composes_and_accepts_the_configuration_of_each_method(tmp_path: Path, model: str, method: str) -> None:
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = composed(tmp_path, model, method=method)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert callable(get_policy_loss_fn(actor.policy_loss.loss_mode))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert (rollout.n, rollout.max_model_len, rollout.agent.default_agent_loop) == (3, CONTEXT, "agentlightning")
    algorithm = omega_conf_to_dataclass(config.algorithm)
    assert algorithm.norm_adv_by_std_in_grpo == (method != "dr_grpo")
    assert config.algorithm.rollout_correction.rollout_is == "token"
    assert not need_critic(config) and not need_reference_policy(config)


def test_a_pull_to_the_reference_makes_verl_keep_one(tmp_path: Path, model: str) -> None:
    from verl.trainer.ppo.utils import need_reference_policy

    config = composed(tmp_path, model, kl=0.02)
    assert need_reference_policy(config)
    assert config.actor_rollout_ref.actor.kl_loss_coef == 0.02


def test_verl_knows_the_learning_as_it_was_set(tmp_path: Path, model: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = composed(tmp_path, model, learning_rate=3e-5, warmup_steps=4, weight_decay=0.1, clip=(0.2, 0.28))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (3e-5, 4, 0.1)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.ppo_mini_batch_size) == (0.2, 0.28, 2)
    model_config = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    assert (model_config.lora_rank, model_config.lora_alpha, model_config.path) == (8, 16, model)
    assert (config.trainer.total_training_steps, config.trainer.total_epochs, config.trainer.save_freq) == (6, 2, 3)


def test_a_setting_of_verls_own_is_put_over_ours_and_an_unknown_one_is_refused_by_verl(
    tmp_path: Path, model: str
) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    plan = {"overrides": {"actor_rollout_ref.rollout.tensor_model_parallel_size": 4}}
    assert composed(tmp_path, model, plan).actor_rollout_ref.rollout.tensor_model_parallel_size == 4
    config = composed(tmp_path, model, {"overrides": {"actor_rollout_ref.actor.no_such_setting": 4}})
    with pytest.raises(Exception, match="no_such_setting"):
        omega_conf_to_dataclass(config.actor_rollout_ref.actor)


def test_verls_data_set_has_the_tasks_by_their_ids(tmp_path: Path, model: str) -> None:
    from verl.trainer.ppo.utils import create_rl_dataset
    from verl.utils.config import omega_conf_to_dataclass

    config = composed(tmp_path, model)
    tokenizer = omega_conf_to_dataclass(config.actor_rollout_ref.model).tokenizer
    rows = create_rl_dataset(config.data.train_files, config.data, tokenizer, None, is_train=True)
    assert [row["extra_info"]["task"] for row in rows] == [f"t{i}" for i in range(12)]
    assert {row["extra_info"]["split"] for row in rows} == {"train"}
    assert rows[3]["raw_prompt"] == [{"role": "user", "content": "say 3"}]
