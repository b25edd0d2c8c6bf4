"""What a wrong setting is told: where it stands, what was expected, and the key that was probably meant."""

from pathlib import Path

import pytest

from agentlightning import Trainer
from agentlightning.errors import ConfigError, DataError
from agentlightning.trainer.config import config_from, load_config
from agentlightning.trainer.resolve import load_agent, resolve_stages


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def message(text: str, *overrides: str, env: dict[str, str] | None = None, name: str = "al_config.yaml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(name, overrides, env or {})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer:\n  max_epoch: 5", "line 2: unknown key 'max_epoch' in trainer. Did you mean 'max_epochs'?"),
        ("traner: {}", "line 1: unknown key 'traner' at the top level. Did you mean 'trainer'?"),
        ("\nmax_epochs: 5", "line 2: unknown key 'max_epochs' at the top level. It belongs under 'trainer'."),
        ("budget: {euro: 5}", "line 1: unknown key 'euro' in budget. Known: usd, calls, task_calls, optimizer_calls, "
         "tokens, minutes, prices."),
        ("tasks: {train: a, valid: b}", "line 1: unknown key 'valid' in tasks. Did you mean 'validation'?"),
        ("agent:\n  tools:\n    pay: {mod: stub, returns: 1, mode: stub}",
         "line 3: unknown key 'mod' in agent.tools.pay. Did you mean 'mode'?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_one(text: str, expected: str):
    assert message(text) == f"al_config.yaml {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer:\n  max_epochs: three", "line 2: trainer.max_epochs must be a whole number, got 'three'"),
        ("trainer: {max_epochs: true}", "line 1: trainer.max_epochs must be a whole number, got true"),
        ("trainer: {max_epochs: 1.5}", "line 1: trainer.max_epochs must be a whole number, got 1.5"),
        ("trainer: {max_epochs: }", "line 1: trainer.max_epochs must be a whole number, got nothing"),
        ("trainer: {max_in_flight: 0}", "line 1: trainer.max_in_flight must be more than 0, got 0"),
        ("trainer: {retries: -1}", "line 1: trainer.retries must be at least 0, got -1"),
        ("trainer: {distributed: yes}", "line 1: trainer.distributed must be true or false, got 'yes'"),
        ("trainer: {isolation: thred}", "line 1: trainer.isolation must be one of 'thread' or 'process', got 'thred'"),
        ("trainer: 5", "line 1: trainer must be a mapping (key: value), got 5"),
        ("agent: {type: [a]}", "line 1: agent.type must be text, got a list"),
        ("reward: 5",
         "line 1: reward: must be the name of a reward, {name: …, weight: …, params: {…}}, or a list of these."),
        ("agent: {target_agents: coder}", "line 1: agent.target_agents must be a list, got 'coder'"),
        ("budget: {minutes: .inf}", "line 1: budget.minutes must be a finite number, got inf"),
        ("models:\n  policy: [x]",
         "line 2: models.policy must be the name of a model, or {model: …, base_url: …}, got a list"),
        ("models: {judge: {temperature: 1}}", "line 1: models.judge lacks the key 'model'."),
        ("algorithm: 5",
         "line 1: algorithm must be the name of an algorithm, or {name: …, params: {…}}, or a list of these, got 5"),
        ("algorithm: [apo,\n 3]",
         "line 2: algorithm.1 must be the name of an algorithm, or {name: …, params: {…}}, got 3"),
        ("tasks: 5",
         "line 1: tasks must be a task file, a list of tasks, or {train: …, validation: …, test: …}, got 5"),
        ("agent: {tools: {pay: 5}}",
         "line 1: agent.tools.pay must be live, stub, record, replay, or {mode: …, returns: …}, got 5"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_in_one_line_what_was_expected(text: str, expected: str):
    assert message(text) == f"al_config.yaml {expected}"


def test_several_problems_take_one_line_each():
    lines = message("trainer:\n  max_epoch: 1\n  gpus: two").splitlines()
    assert [line.split(":")[0] for line in lines] == ["al_config.yaml line 3", "al_config.yaml line 2"]


@pytest.mark.parametrize("text", ["tasks: []", "tasks: {train: [1]}", "tasks: {train: {a: b}}"])
def test_tasks_that_are_no_tasks_are_refused(text: str):
    assert "line 1: tasks.train: must be the path of a task file, or a list of tasks" in message(text)


def test_an_algorithms_setting_beside_its_name_is_sent_under_params():
    found = message("algorithm:\n  - name: apo\n    max_prompt_length: 5")
    assert found.startswith("al_config.yaml line 3: unknown key 'max_prompt_length' in algorithm.0.")
    assert found.endswith("Settings of the algorithm itself go under 'params'.")


def test_an_algorithm_written_as_a_key_is_shown_the_right_form():
    assert "algorithm.0: write it as  {name: apo, params: {…}}" in message("algorithm:\n  - apo: {beam: 5}")


def test_a_reward_function_given_twice_and_differently_is_refused():
    text = "algorithm: {name: apo, reward_function: a, params: {reward_function: b}}"
    assert "reward_function stands twice" in message(text)


@pytest.mark.parametrize(
    "given",
    [
        {"text": "models:\n  judge:\n    model: j\n    api_key: sk-hush"},
        {"text": "models: {judge: j}", "overrides": ["models.judge.api_key=sk-hush"]},
        {"text": "models: {judge: j}", "env": {"AGENTLIGHTNING_MODELS__JUDGE__API_KEY": "sk-hush"}},
        {"text": "models: {judge: {model: j, api_key_env: sk-hush}}"},
        {"text": "models: {judge: {model: j, api_key_env: [sk-hush]}}"},
        {"text": "models: {judge: {model: j, api_key_env: 5}}"},
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(given: dict[str, object]):
    overrides, env = given.get("overrides", []), given.get("env")
    found = message(str(given["text"]), *overrides, env=env)  # type: ignore[misc, arg-type]
    assert "api_key" in found and "hush" not in found and "got 5" not in found


def test_the_refusal_of_a_key_names_the_remedy_and_the_line():
    found = message("models:\n  judge:\n    model: j\n    api_key: sk-hush")
    assert found.startswith("al_config.yaml line 4: models.judge.api_key: a key must not stand in a configuration")
    assert found.endswith("api_key_env: OPENAI_API_KEY")


def test_errors_outside_the_file_name_their_own_source():
    file = "trainer:\n  seed: 1"
    assert message(file, "trainer.sed=2").startswith("override trainer.sed: unknown key 'sed' in trainer.")
    assert message(file, "trainer.seed=two").startswith("override trainer.seed: must be a whole")
    env = {"AGENTLIGHTNING_MODEL__POLICY": "x"}
    assert message(file, env=env) == (
        "environment AGENTLIGHTNING_MODEL__POLICY: unknown key 'model' at the top level. Did you mean 'models'?"
    )
    assert message(file, env={"AGENTLIGHTNING_TRAINER__SEED": "x"}).startswith(
        "environment AGENTLIGHTNING_TRAINER__SEED: trainer.seed must be a whole number"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer", "override 'trainer' is not of the form key.path=value, such as trainer.max_epochs=5."),
        ("trainer..seed=1", "override 'trainer..seed=1' is not of the form key.path=value"),
        ("algorithm.2.name=rl", "override algorithm.2.name: there is no item 2 here, only 1 (counted from 0)."),
        ("algorithm.name=rl", "override algorithm.name: algorithm is a list; count its items from 0."),
        ("reward.x=1", "override reward.x: reward is 'r', which has no keys."),
        ("reward=[a", "override reward: the value cannot be read as YAML. Put quotes around it."),
    ],
)
def test_an_override_that_leads_nowhere_says_why(override: str, expected: str):
    assert message("algorithm: [apo]\nreward: r", override).startswith(expected)


def test_an_empty_level_in_an_environment_name_is_refused():
    found = message("{}", env={"AGENTLIGHTNING_TRAINER____SEED": "1"})
    assert found.startswith("environment AGENTLIGHTNING_TRAINER____SEED: a level is empty.")


def test_a_missing_file_is_told_the_one_that_looks_like_it():
    Path("al_config.yaml").touch()
    with pytest.raises(
        ConfigError, match=r"there is no configuration file 'al_confg.yml'. Did you mean 'al_config.yaml'"
    ):
        load_config("al_confg.yml")
    with pytest.raises(ConfigError, match=r"In that folder: al_config.yaml\."):
        load_config("zzz.toml")
    with pytest.raises(ConfigError, match=r"The folder 'no' does not exist either"):
        load_config("no/al_config.yaml")
    with pytest.raises(ConfigError, match=r"is a folder\. Name the file in it\. Did you mean 'al_config.yaml'"):
        load_config(".")


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_is_told_the_least_it_can_say(text: str):
    assert message(text).startswith("al_config.yaml is empty. The least it can say")


@pytest.mark.parametrize(("text", "found"), [("- a", "a list"), ("# x", "only comments"), ("hello", "'hello'")])
def test_a_file_that_is_no_mapping_is_refused(text: str, found: str):
    assert message(text).endswith(f"(a mapping), but holds {found}.")


def test_other_suffixes_and_encodings_are_refused():
    assert "a configuration file ends in .yaml, .yml, .toml, .json, not in '.txt'" in message("a: 1", name="a.txt")
    Path("latin.yaml").write_bytes("reward: grün".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml is not UTF-8 text \(byte 10\)\. Save it as UTF-8"):
        load_config("latin.yaml")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"trainer": {\n\t"gpus": "x"}}', "a.json line 2: trainer.gpus must be a whole number, got 'x'"),
        ("a.json", '{"trainer":\n }', "a.json line 2: this is not JSON (Expecting value)."),
        ("a.json", '{"reward": "a",\n "reward": "b"}', "a.json line 2: 'reward' stands twice (first on line 1)."),
        ("a.toml", '[trainer]\nseed = 1\ngpus = "x"', "a.toml line 3: trainer.gpus must be a whole number, got 'x'"),
        (
            "a.toml",
            '[[algorithm]]\nname = "a"\n[[algorithm]]\nname = 5',
            "a.toml line 4: algorithm.1.name must be text",
        ),
        ("a.toml", '[models.judge]\n"model" = "j"\nmodl = 1', "a.toml line 3: unknown key 'modl' in models.judge."),
        ("a.toml", "models.judge.model = 5", "a.toml line 1: models.judge.model must be text, got 5"),
        ("a.toml", "[trainer]\nx = = 2", "a.toml line 2: this is not TOML"),
    ],
)
def test_json_and_toml_errors_have_lines_too(name: str, text: str, expected: str):
    assert message(text, name=name).startswith(expected)


def test_python_data_is_told_the_key_alone():
    with pytest.raises(ConfigError, match=r"^trainer.seed must be a whole number, got 'x'$"):
        config_from({"trainer": {"seed": "x"}})


def test_a_config_error_is_a_value_error():
    with pytest.raises(ValueError, match="unknown key 'x'"):
        config_from({"x": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent: {path: it.py:tirage}", "it.yaml line 1: 'it.py:tirage': there is no 'tirage' in it. Did you mean"),
        ("agent:\n  path: ti.py", "it.yaml line 2: there is no file 'ti.py'"),
        ("agent:\n  path: it.py:triage\n  type: langchian", "it.yaml line 3: unknown adapter 'langchian'."),
        ("agent: {path: it.py:triage}\nalgorithm:\n  - apo\n  - {name: ap}", "it.yaml line 4: unknown algorithm 'ap'."),
        (
            "agent: {path: it.py:triage}\nalgorithm:\n  - {name: apo, params: {round: 3}}",
            "it.yaml line 3: algorithm 'apo' has no parameter 'round'. Did you mean 'rounds'?",
        ),
        (
            "agent: {path: it.py:triage}\nalgorithm:\n  - parallel: [apo, gepa]",
            "it.yaml line 2: stage 1-apo runs in parallel with others: say for which agents",
        ),
        ("agent: {path: it.py:triage}\n\nreward: exct_match", "it.yaml line 3: unknown reward 'exct_match'."),
        ("agent: {path: it.py:triage}\ntasks: t.jsonl", "it.yaml line 2: there is no task file "),
    ],
)
def test_what_a_key_names_and_is_not_there_is_told_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "it.py").write_text("def triage(ticket: str) -> str:\n    return ticket\n")
    (tmp_path / "it.yaml").write_text(text)
    folders = {"data_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out")}
    with pytest.raises((ConfigError, DataError)) as refused:
        config = load_config("it.yaml", [f"trainer.{key}={value}" for key, value in folders.items()])
        Trainer(load_agent(config).agent, config=config, progress=False).train(None if "tasks" in text else ["a"])
    assert str(refused.value).startswith(said)


def test_an_override_or_what_python_set_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text("algorithm: apo\n")
    config = load_config("it.yaml", ["algorithm=apoo"])
    with pytest.raises(ConfigError, match=r"^override algorithm: unknown algorithm 'apoo'"):
        resolve_stages(None, config)
    with pytest.raises(ConfigError, match=r"^unknown algorithm 'apooo'"):
        resolve_stages(None, config.replace({"algorithm": "apooo"}))
