"""`extends`: what one file laid over another comes to, and where each key says it came from."""

from pathlib import Path

import pytest

from agentlightning.errors import ConfigError
from agentlightning.trainer.config import Config, config_from, load_config


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files(**texts: str) -> None:
    for name, text in texts.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def load(name: str, *overrides: str) -> Config:
    return load_config(name, overrides, {})


def message(name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(name)
    return str(caught.value)


def test_mappings_are_merged_and_everything_else_is_replaced():
    files(
        base="trainer: {max_epochs: 9, seed: 4}\nalgorithm: [apo, gepa]\nbudget: {calls: 10}",
        al="extends: base.yaml\ntrainer: {max_epochs: 2}\nalgorithm: apo\nbudget:",
    )
    config = load("al.yaml")
    assert (config.trainer.max_epochs, config.trainer.seed) == (2, 4)
    assert [stage.name for stage in config.algorithm] == ["apo"] and config.budget.calls is None
    assert config.extends is None and load("al.yaml", "trainer.seed=7").trainer.seed == 7


def test_several_levels_are_laid_over_each_other_whatever_their_format():
    files(middle="extends: base.toml\nreward: contains", al="extends: middle.yaml\ntrainer: {seed: 3}")
    Path("base.toml").write_text('reward = "exact_match"\n[trainer]\nseed = 1\nmax_epochs = 8\n')
    config = load("al.yaml")
    assert (config.reward, config.trainer.seed, config.trainer.max_epochs) == ("contains", 3, 8)


def test_one_key_of_a_short_form_can_be_changed_and_a_short_form_replaces_the_whole():
    files(
        base="tasks: all.csv\nmodels: {optimizer: big, judge: {model: j, temperature: 0}}\nstore: runs",
        al="extends: base.yaml\ntasks: {test: none}\nmodels: {optimizer: {temperature: 1}, judge: k}\n"
        "store: {durability: power}",
    )
    config = load("al.yaml")
    assert config.task_sources() == {"train": Path.cwd() / "all.csv", "test": "none"}
    assert config.models.optimizer is not None and config.models.optimizer.spec() == {"model": "big", "temperature": 1}
    assert config.models.judge is not None and config.models.judge.spec() == {"model": "k"}
    assert (config.store.address, config.store.durability) == ("runs", "power")


def test_relative_paths_start_at_the_file_they_stand_in():
    files(
        base="agent: {path: ./my_agent.py:answer}\ntasks: {train: data/a.csv, test: none}\n"
        "reward: scores.py:score\nalgorithm: [{name: 'algo.py:Mine', reward_function: contains}, apo, 'p.m:X']\n"
        "store: sqlite:///x.db\ntrainer: {output_dir: /abs/out, data_dir: runs}",
        runs__one="extends: ../base.yaml\ntasks: {validation: val.csv}",
    )
    config = load("runs/one.yaml")
    home = Path.cwd()
    sources = config.task_sources()
    assert sources is not None
    assert config.agent.path == "../my_agent.py:answer" and config.reward == "../scores.py:score"
    assert [stage.name for stage in config.algorithm] == ["../algo.py:Mine", "apo", "p.m:X"]
    assert config.path_to(config.trainer.data_dir).resolve() == home / "runs"
    assert (config.store.address, config.trainer.output_dir) == ("sqlite:///x.db", "/abs/out")
    assert {split: str(path.resolve()) if isinstance(path, Path) else path for split, path in sources.items()} == {
        "train": str(home / "data/a.csv"), "validation": str(home / "runs/val.csv"), "test": "none",
    }  # fmt: skip


def test_an_error_names_the_file_the_value_really_came_from():
    files(
        base="trainer:\n  seed: 1\n  max_epoch: 2\n",
        middle="extends: base.yaml\nreward: contains\n",
        al="extends: middle.yaml\ntrainer:\n  retries: -1\n",
    )
    text = message("al.yaml")
    assert "base.yaml line 3: unknown key 'max_epoch' in trainer. Did you mean 'max_epochs'?" in text
    assert "al.yaml line 3: trainer.retries must be at least 0, got -1" in text


def test_a_replaced_value_is_not_blamed_on_the_base():
    files(base="reward: 5\nalgorithm:\n  - nam: apo\n", al="extends: base.yaml\nreward: x\nalgorithm: [apo]\n")
    assert load("al.yaml").reward == "x"


def test_a_missing_variable_of_the_base_is_named_there():
    files(base="\nreward: ${NOT_THERE}\n", al="extends: base.yaml\n")
    assert message("al.yaml").startswith("base.yaml line 2: reward needs the environment variable NOT_THERE")


def test_a_circle_is_refused_with_the_chain():
    files(a="extends: b.yaml", b="extends: sub/c.yaml", sub__c="\nextends: ../a.yaml")
    assert message("a.yaml") == (
        "sub/c.yaml line 2: extends goes in a circle: a.yaml → b.yaml → sub/c.yaml → ../a.yaml. "
        "Take one of these lines out."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: bsae.yaml", "al.yaml line 1: extends 'bsae.yaml': there is no configuration file 'bsae.yaml'. "
         "Did you mean 'base.yaml'?"),
        ("trainer: {}\nextends: [base.yaml]", "al.yaml line 2: extends must be the path of one configuration file, "
         "got ['base.yaml']"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_an_error_on_its_line(text: str, expected: str):
    files(base="{}", al=text)
    assert message("al.yaml") == expected


def test_extends_cannot_be_an_override():
    files(al="{}")
    with pytest.raises(ConfigError, match="override extends: extends is read from the file itself"):
        load("al.yaml", "extends=x.yaml")


def test_python_settings_extend_a_file_too():
    files(base="trainer: {seed: 5}", sub__x="{}")
    assert config_from({"extends": "base.yaml", "reward": "contains"}, Path.cwd()).trainer.seed == 5
    with pytest.raises(ConfigError, match="^extends 'nope.yaml': there is no configuration file"):
        config_from({"extends": "nope.yaml"})
