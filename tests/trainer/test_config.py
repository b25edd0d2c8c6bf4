"""The configuration's meaning: what files, environment and overrides come to, and what is kept of it."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.errors import ConfigError
from agentlightning.trainer.config import Config, config_from, config_schema, load_config

SEED = """\
agent:
  type: "autogen" # 代理基于AutoGen框架
  path: "./my_autogen_agent.py" # 代理代码路径
  target_agents: ["coder_agent", "reviewer_agent"] # 仅优化这两个代理

algorithm:
  - name: "apo"
    params:
      max_prompt_length: 500 # 提示词最大长度
  - name: "rl"
    params:
      reward_function: "task_success_rate" # 以任务成功率为奖励
      policy_lr: 0.001 # 学习率

trainer:
  max_epochs: 5
  distributed: True # 启用分布式训练
  gpus: 2 # 使用2个GPU
"""


def write(folder: Path, text: str, name: str = "al_config.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str, *overrides: str, env: dict[str, str] | None = None) -> Config:
    return load_config(write(folder, text), overrides, env or {})


def test_the_articles_file_loads_as_it_is(tmp_path: Path):
    config = load(tmp_path, SEED)
    assert (config.agent.type, config.agent.path) == ("autogen", "./my_autogen_agent.py")
    assert config.agent.target_agents == ["coder_agent", "reviewer_agent"]
    assert [stage.name for stage in config.algorithm] == ["apo", "rl"]
    assert (config.trainer.max_epochs, config.trainer.distributed, config.trainer.gpus) == (5, True, 2)


def test_a_reward_function_among_the_params_belongs_to_the_stage_and_not_to_the_algorithm(tmp_path: Path):
    apo, rl = load(tmp_path, SEED).algorithm
    assert (apo.reward_function, apo.params) == (None, {"max_prompt_length": 500})
    assert (rl.reward_function, rl.params) == ("task_success_rate", {"policy_lr": 0.001})


def test_toml_and_json_say_the_same_as_yaml(tmp_path: Path):
    toml = """
        [agent]
        type = "autogen"
        path = "./my_autogen_agent.py"
        target_agents = ["coder_agent", "reviewer_agent"]
        [[algorithm]]
        name = "apo"
        params = { max_prompt_length = 500 }
        [[algorithm]]
        name = "rl"
        params = { reward_function = "task_success_rate", policy_lr = 0.001 }
        [trainer]
        max_epochs = 5
        distributed = true
        gpus = 2
    """
    from_yaml = load(tmp_path, SEED)
    assert load_config(write(tmp_path, toml, "al.toml"), env={}) == from_yaml
    as_json = json.dumps(from_yaml.to_dict(), indent="\t")
    assert load_config(write(tmp_path, as_json, "al.json"), env={}) == from_yaml


@pytest.mark.parametrize("text", ["{}", "agent:\nbudget:\n"])
def test_everything_is_optional_and_a_section_may_be_empty(tmp_path: Path, text: str):
    config = load(tmp_path, text)
    assert config == config_from({}, tmp_path)
    assert (config.trainer.max_epochs, config.trainer.max_in_flight, config.trainer.timeout_seconds) == (3, 16, 120)
    assert (config.trainer.data_dir, config.trainer.output_dir) == ("./trajectory_data", "./optimized_results")
    assert config.algorithm == [] and config.tasks is None and config.budget.caps() == {}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("apo", ["apo"]),
        (["apo", {"name": "rl", "agents": ["coder"]}], ["apo", "rl"]),
        ({"name": "apo", "params": {}}, ["apo"]),
        (("apo", "rl"), ["apo", "rl"]),
        ("my_pkg.algo:MyAlgorithm", ["my_pkg.algo:MyAlgorithm"]),
    ],
)
def test_an_algorithm_is_a_name_a_mapping_or_a_list_of_them(given: object, names: list[str]):
    assert [stage.name for stage in config_from({"algorithm": given}).algorithm] == names


def test_a_model_is_a_name_or_a_mapping_and_its_spec_holds_only_what_was_set():
    models = config_from({"models": {"task": "gpt-4.1", "judge": {"model": "j", "temperature": 0}}}).models
    assert models.task is not None and models.task.spec() == {"model": "gpt-4.1"}
    assert models.judge is not None and models.judge.spec() == {"model": "j", "temperature": 0}
    assert models.policy is None


def test_tools_take_a_mode_or_a_mode_with_its_answer():
    agent = config_from({"agent": {"tools": {"send_email": "stub", "pay": {"mode": "stub", "returns": None}}}}).agent
    assert agent.tool_specs() == {"send_email": {"mode": "stub"}, "pay": {"mode": "stub", "returns": None}}


def test_budget_caps_and_prices_come_in_the_words_of_budget_and_ledger():
    budget = config_from({"budget": {"usd": 5, "calls": 10, "prices": {"mine": {"input": 1, "output": 2}}}}).budget
    assert budget.caps() == {"usd": 5, "calls": 10}
    assert budget.price_overrides() == {"mine": (1, 1, 2)}


def test_paths_of_a_file_start_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "sub").mkdir()
    path = write(tmp_path / "sub", "tasks: {train: train.jsonl, test: none}")
    monkeypatch.chdir(tmp_path)
    config = load_config(path.relative_to(tmp_path), env={})
    assert config.base_dir == tmp_path / "sub"
    assert config.path_to(config.trainer.output_dir) == tmp_path / "sub" / "optimized_results"
    assert config.path_to("/elsewhere/x") == Path("/elsewhere/x")
    assert config.task_sources() == {"train": tmp_path / "sub" / "train.jsonl", "test": "none"}


def test_the_store_is_a_folder_beside_the_file_or_an_address(tmp_path: Path):
    assert load(tmp_path, "{}").store_address() == str(tmp_path / "trajectory_data")
    assert load(tmp_path, "store: runs").store_address() == str(tmp_path / "runs")
    assert load(tmp_path, "store: postgresql://host/db").store_address() == "postgresql://host/db"
    assert load(tmp_path, "store: {mask_personal_data: true}").store_address() == str(tmp_path / "trajectory_data")
    masked = load(tmp_path, "store: runs", "store.mask_personal_data=true")
    assert masked.store_address() == str(tmp_path / "runs") and masked.store.mask_personal_data
    assert not load(tmp_path, "store: {address: runs, mask_personal_data: true}", "store=else").store.mask_personal_data


def test_one_task_file_or_list_is_the_source_of_all_splits(tmp_path: Path):
    assert load(tmp_path, "tasks: all.csv").task_sources() == {"train": tmp_path / "all.csv"}
    assert load(tmp_path, "tasks: [a, {input: b}]").task_sources() == {"train": ["a", {"input": "b"}]}


def test_a_split_with_nothing_after_it_is_declined(tmp_path: Path):
    assert load(tmp_path, "tasks: {train: [a], test: }").task_sources() == {"train": ["a"], "test": "none"}


def test_the_environment_goes_over_the_file_and_overrides_go_over_both(tmp_path: Path):
    text = "trainer: {max_epochs: 1, gpus: 1, seed: 1}"
    env = {"AGENTLIGHTNING_TRAINER__GPUS": "2", "AGENTLIGHTNING_TRAINER__SEED": "2"}
    trainer = load(tmp_path, text, "trainer.seed=3", env=env).trainer
    assert (trainer.max_epochs, trainer.gpus, trainer.seed) == (1, 2, 3)


def test_a_policy_model_may_come_from_the_environment_alone(tmp_path: Path):
    env = {"AGENTLIGHTNING_MODELS__POLICY": "Qwen/Qwen3-0.6B", "AGENTLIGHTNING_DEVICE": "cpu", "OTHER__X": "1"}
    policy = load(tmp_path, SEED, env=env).models.policy
    assert policy is not None and policy.model == "Qwen/Qwen3-0.6B"


def test_the_process_environment_is_read_when_no_other_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("AGENTLIGHTNING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTLIGHTNING_TRAINER__MAX_EPOCHS", "7")
    assert load_config(write(tmp_path, SEED)).trainer.max_epochs == 7


def test_overrides_reach_into_lists_and_behind_short_forms(tmp_path: Path):
    text = "algorithm: apo\ntasks: all.jsonl\nmodels: {optimizer: gpt-5}"
    config = load(
        tmp_path,
        text,
        "algorithm.0.params.beam=4",
        "algorithm.1.name=rl",
        "tasks.test=none",
        "models.optimizer.temperature=0.5",
        "models.judge=small",
        "models.judge.max_tokens=9",
    )
    assert [(stage.name, stage.params) for stage in config.algorithm] == [("apo", {"beam": 4}), ("rl", {})]
    assert config.tasks is not None and (config.tasks.train, config.tasks.test) == ("all.jsonl", "none")
    assert config.models.optimizer is not None and config.models.optimizer.temperature == 0.5
    assert config.models.judge is not None and config.models.judge.max_tokens == 9


def test_python_data_gives_the_same_and_takes_path_objects(tmp_path: Path):
    config = config_from({"trainer": {"output_dir": tmp_path}, "tasks": tmp_path / "t.csv"}, tmp_path)
    assert config.trainer.output_dir == str(tmp_path)
    assert config.task_sources() == {"train": tmp_path / "t.csv"}
    assert config_from({"tasks": ("a", "b")}).task_sources() == {"train": ["a", "b"]}


def test_replace_sets_some_keys_and_keeps_the_rest(tmp_path: Path):
    config = load(tmp_path, SEED).replace({"trainer.max_epochs": 9, "algorithm.0.params.beam": 2, "reward": "exact"})
    assert (config.trainer.max_epochs, config.trainer.gpus, config.reward) == (9, 2, "exact")
    assert config.algorithm[0].params == {"max_prompt_length": 500, "beam": 2}
    assert config.base_dir == tmp_path
    with pytest.raises(ConfigError, match=r"^trainer.max_epoch: unknown key 'max_epoch' in trainer\. Did you mean"):
        config.replace({"trainer.max_epoch": 9})


def test_the_effective_configuration_reads_back_as_itself(tmp_path: Path):
    text = SEED + "tasks: {train: [a, {input: b, expected: [1]}]}\nmodels: {judge: j}\n"
    config = load(tmp_path, text, "agent.tools.pay=stub", "budget.prices.m={input: 1, output: 2}")
    assert config_from(json.loads(json.dumps(config.to_dict())), tmp_path) == config


def test_the_effective_configuration_shows_no_password_and_no_header():
    config = config_from(
        {
            "store": "postgresql://me:pa@ss@host:5432/db",
            "models": {"judge": {"model": "j", "base_url": "http://u:p@host/v1", "headers": {"x-team": "hush"}}},
        }
    )
    kept = config.to_dict()
    assert kept["store"]["address"] == "postgresql://***@host:5432/db"
    assert kept["models"]["judge"]["base_url"] == "http://***@host/v1"
    assert kept["models"]["judge"]["headers"] == {"x-team": "***"}


def test_the_shipped_schema_is_current():
    import agentlightning.trainer.config as module

    shipped = Path(module.__file__).with_name("config.schema.json")
    assert json.loads(shipped.read_text(encoding="utf-8")) == config_schema(), "run scripts/write_config_schema.py"


def test_the_schema_knows_the_short_forms_and_what_keys_mean():
    schema = config_schema()
    assert {"type": "string"} in schema["properties"]["algorithm"]["anyOf"]
    assert "target_agents" in schema["$defs"]["AgentSection"]["properties"]
    assert "Passes" in schema["$defs"]["TrainerSection"]["properties"]["max_epochs"]["description"]
    assert schema["additionalProperties"] is False


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_epochs": st.integers(min_value=1),
            "gpus": st.integers(min_value=0),
            "distributed": st.booleans(),
            "timeout_seconds": st.floats(min_value=1e-3, max_value=sys.float_info.max),
            "output_dir": st.text(min_size=1),
        },
    )
)
def test_any_valid_values_come_back_from_the_effective_configuration(values: dict[str, object]):
    trainer = config_from({"trainer": values}).to_dict()["trainer"]
    assert config_from({"trainer": trainer}).to_dict()["trainer"] == trainer
    assert trainer.items() >= values.items()
