"""`${NAME}` in a configuration: what it comes to, what is said when it cannot, and what is kept of it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.errors import ConfigError
from agentlightning.trainer.config import Config, config_from, load_config


def load(folder: Path, text: str, *overrides: str, name: str = "al.yaml", **env: str) -> Config:
    (folder / name).write_text(text, encoding="utf-8")
    return load_config(folder / name, overrides, env)


def test_a_variable_is_filled_in_anywhere_in_a_text(tmp_path: Path):
    config = load(tmp_path, "tasks: ${DATA}/train.jsonl\nmodels: {judge: '${M:-small}-${V:-1}'}", DATA="/data", M="big")
    assert config.tasks is not None and config.tasks.train == "/data/train.jsonl"
    assert config.models.judge is not None and config.models.judge.model == "big-1"


@pytest.mark.parametrize(("env", "expected"), [({}, "b"), ({"A": ""}, "b"), ({"A": "x"}, "x")])
def test_a_default_stands_for_a_variable_that_is_not_set_or_empty(tmp_path: Path, env: dict[str, str], expected: str):
    assert load(tmp_path, "reward: ${A:-b}", **env).reward == expected


def test_an_escaped_one_is_the_characters_themselves(tmp_path: Path):
    config = load(tmp_path, "tasks: ['echo $${HOME}', 'a $ b', 'costs $5']")
    assert config.tasks is not None and config.tasks.train == ["echo ${HOME}", "a $ b", "costs $5"]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("al.yaml", "agent: {path: a.py}\nmodels:\n  optimizer:\n    model: m\n    base_url: ${GATEWAY}\n", 5),
        ("al.toml", '[models.optimizer]\nmodel = "m"\nbase_url = "${GATEWAY}"\n', 3),
        ("al.json", '{"models": {"optimizer": {\n "model": "m",\n "base_url": "${GATEWAY}"}}}', 3),
    ],
)
def test_a_missing_variable_is_named_with_file_line_and_key(tmp_path: Path, name: str, text: str, line: int):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, name=name, GATEWAI="x")
    assert str(caught.value) == (
        f"{tmp_path / name} line {line}: models.optimizer.base_url needs the environment variable GATEWAY, which is "
        "not set. Did you mean 'GATEWAI'? Set it, or write a default: ${GATEWAY:-…}"
    )


@pytest.mark.parametrize("text", ["${1A}", "${A", "${}", "${A:b}", "x ${user.name}"])
def test_what_names_no_variable_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="line 1: reward holds .*names no variable. Write"):
        load(tmp_path, f'reward: "{text}"', A="a")


@pytest.mark.parametrize("name", ["al.yaml", "al.toml", "al.json"])
def test_a_variable_alone_may_be_a_number_or_true_or_false(tmp_path: Path, name: str):
    text = {
        "al.yaml": "trainer: {max_epochs: '${N}', distributed: '${D}'}\nbudget: {usd: '${USD:-2.5}'}",
        "al.toml": 'trainer = {max_epochs = "${N}", distributed = "${D}"}\nbudget = {usd = "${USD:-2.5}"}',
        "al.json": '{"trainer": {"max_epochs": "${N}", "distributed": "${D}"}, "budget": {"usd": "${USD:-2.5}"}}',
    }[name]
    config = load(tmp_path, text, name=name, N="7", D="true")
    assert (config.trainer.max_epochs, config.trainer.distributed, config.budget.usd) == (7, True, 2.5)
    assert config.to_dict()["trainer"]["max_epochs"] == 7  # a number is no secret


def test_a_text_that_looks_like_a_number_stays_text_where_text_is_wanted(tmp_path: Path):
    config = load(tmp_path, "models: {judge: {model: m, headers: {X-Org: '${ORG}'}}}", ORG="12345")
    assert config.models.judge is not None and config.models.judge.headers == {"X-Org": "12345"}


def test_what_is_no_number_is_refused_as_what_it_came_to(tmp_path: Path):
    with pytest.raises(ConfigError, match="line 1: trainer.max_epochs must be a whole number, got 'many'"):
        load(tmp_path, "trainer: {max_epochs: '${N}'}", N="many")


def test_overrides_and_environment_settings_are_not_filled_in_again(tmp_path: Path):
    config = load(tmp_path, "{}", "reward=${A}", AGENTLIGHTNING_AGENT__PATH="${B}/x.py")
    assert (config.reward, config.agent.path) == ("${A}", "${B}/x.py")


def test_an_overridden_text_needs_no_variable(tmp_path: Path):
    assert load(tmp_path, "reward: ${NOT_SET}", "reward=contains").reward == "contains"


SECRETS = """
store: postgresql://me:${PASSWORD}@db/runs
models:
  optimizer:
    model: m
    base_url: https://gateway/${TENANT}
    headers: {Authorization: "Bearer ${TOKEN}", X-Key: "abc ${TOKEN}", X-Default: "${TOKEN:-hidden}"}
algorithm: {name: apo, params: {note: "${TOKEN}", rounds: "${ROUNDS}"}}
"""
ENV = {"PASSWORD": "pw-9", "TENANT": "acme", "TOKEN": "tok-1234", "ROUNDS": "4"}


def test_what_came_from_the_environment_is_kept_as_it_was_written(tmp_path: Path):
    kept = load(tmp_path, SECRETS, **ENV).to_dict()
    assert not any(secret in str(kept) for secret in ("pw-9", "acme", "tok-1234", "abc", "hidden"))
    assert kept["models"]["optimizer"]["headers"] == {
        "Authorization": "Bearer ${TOKEN}", "X-Key": "***", "X-Default": "***",
    }  # fmt: skip
    assert kept["algorithm"][0]["params"] == {"note": "${TOKEN}", "rounds": "4"}


def test_what_was_kept_reads_back_as_the_same_configuration(tmp_path: Path):
    text = SECRETS.replace(', X-Key: "abc ${TOKEN}", X-Default: "${TOKEN:-hidden}"', "")
    config = load(tmp_path, text, **ENV)
    again = config_from(config.to_dict(), tmp_path, ENV)
    assert again.model_dump() == config.model_dump() and again.to_dict() == config.to_dict()


def test_a_setting_laid_over_a_variable_is_kept_and_not_the_variable(tmp_path: Path):
    config = load(tmp_path, "reward: ${R}", R="contains").replace({"reward": "exact_match"})
    assert config.to_dict()["reward"] == "exact_match"


@given(st.text(alphabet="${}AB:-x ", max_size=12))
def test_any_text_survives_being_kept_and_read_again(text: str):
    config = Config().replace({"tasks": [f"t{text}"]})
    assert config_from(config.to_dict(), env={}) == config


def test_python_data_is_filled_in_like_a_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_REWARD", "contains")
    data: dict[str, Any] = {"reward": "${MY_REWARD}"}
    assert config_from(data).reward == "contains"
