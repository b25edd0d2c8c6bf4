"""An agent is found in its file: the one that is named, or the only one that can be meant."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from agentlightning.errors import AgentError, AgentLightningError, ConfigError
from agentlightning.trainer.config import config_from
from agentlightning.trainer.resolve import LoadedAgent, load_agent

BOT = """
class Bot:
    def __init__(self):
        self.count = 0

    def answer(self, question):
        self.count += 1
        return f"{question} {self.count}"

    def close(self): ...
"""


def found(folder: Path, source: str, name: str = "", **settings: Any) -> LoadedAgent:
    (folder / "mine.py").write_text(textwrap.dedent(source))
    path = "./mine.py" + (f":{name}" if name else "")
    return load_agent(config_from({"agent": {"path": path, **settings}}, folder))


def test_the_only_function_is_the_agent_and_the_file_may_hold_tasks_and_reward(tmp_path: Path) -> None:
    source = """
    def answer(question): return question.upper()
    def reward(task, trajectory): return 1.0
    tasks = ["one", "two"]
    """
    loaded = found(tmp_path, source)
    assert loaded.agent("a") == "A" and loaded.agent.agent_id == "answer"
    assert loaded.tasks == ["one", "two"] and loaded.reward is not None and loaded.reward(None, None) == 1.0


def test_an_imported_decorator_is_no_reward(tmp_path: Path) -> None:
    assert found(tmp_path, "from agentlightning import reward\ndef answer(question): return question").reward is None


def test_functions_that_another_calls_are_its_parts(tmp_path: Path) -> None:
    source = """
    def retrieve(question): return [question]
    def prompt(question): return " ".join(retrieve(question))
    def answer(question): return max((prompt(question) for _ in range(2)), key=len)
    def main(): print(answer("x"))
    """
    assert found(tmp_path, source).agent.agent_id == "answer"


def test_an_object_that_a_function_uses_is_its_part_and_so_is_a_function_that_an_object_uses(tmp_path: Path) -> None:
    model = "class Model:\n    def __call__(self, text): return text.upper()\n\nmodel = Model()\n"
    assert found(tmp_path, model + "def answer(question): return model(question)").agent.agent_id == "answer"
    bot = "class Bot:\n    def __call__(self, text): return shout(text)\n\nbot = Bot()\n"
    (tmp_path / "second").mkdir()
    assert found(tmp_path / "second", "def shout(text): return text.upper()\n" + bot).agent.agent_id == "Bot"


def test_several_that_could_be_meant_are_listed(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"holds 2 objects.*\./mine\.py:ask, \./mine\.py:answer"):
        found(tmp_path, "def ask(q): return q\ndef answer(q): return q")


def test_one_called_agent_is_meant(tmp_path: Path) -> None:
    assert found(tmp_path, "def ask(q): return 1\ndef agent(q): return 2").agent("x") == 2


def test_an_object_that_can_be_called_is_the_agent(tmp_path: Path) -> None:
    source = f"{BOT}\n    def __call__(self, question): return self.answer(question)\n\nbot = Bot()"
    loaded = found(tmp_path, source)
    assert (loaded.agent.agent_id, loaded.agent("a"), loaded.agent("a")) == ("Bot", "a 1", "a 2")


@pytest.mark.parametrize("name", ["", "Bot", "Bot.answer"])
def test_a_class_makes_an_agent_of_its_own_for_every_run(tmp_path: Path, name: str) -> None:
    loaded = found(tmp_path, BOT, name)
    assert loaded.agent.agent_id == "Bot"
    assert [loaded.agent.adapter.invoke("a") for _ in range(2)] == ["a 1", "a 1"]


def test_the_method_of_an_object_keeps_its_object(tmp_path: Path) -> None:
    loaded = found(tmp_path, f"{BOT}\nbot = Bot()", "bot.answer")
    assert [loaded.agent.adapter.invoke("a") for _ in range(2)] == ["a 1", "a 2"]


@pytest.mark.parametrize("word", ["def", "async def"])
def test_a_factory_makes_the_agent_of_every_run(tmp_path: Path, word: str) -> None:
    source = f"""
    made = []
    {word} create_agent():
        made.append(1)
        number = len(made)
        {"async " if "async" in word else ""}def answer(question): return f"{{question}} {{number}}"
        return answer
    """
    loaded = found(tmp_path, source)
    assert loaded.agent.agent_id == "answer"
    one, two = (loaded.agent.adapter.invoke("a") for _ in range(2))
    if word == "async def":
        import asyncio

        one, two = asyncio.run(_both(one, two))
    assert one != two


async def _both(one: Any, two: Any) -> tuple[str, str]:
    return await one, await two


def test_a_factory_that_makes_no_agent_says_what_it_made(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"create_agent\(\) made a int, which cannot be called"):
        found(tmp_path, "def create_agent(): return 42")


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("x = 1", "", "holds no agent: define a function that takes the task's input"),
        ("def answer(q): return q", "anser", "Did you mean 'answer'"),
        (BOT, "Bot.anser", "Did you mean 'answer'"),
        ("def answer(q:\n", "", "cannot be imported: SyntaxError"),
        ("import nowhere_to_be_found", "", "No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(3)", "", "cannot be imported: SystemExit: 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, source: str, name: str, says: str) -> None:
    with pytest.raises(AgentLightningError, match=says):
        found(tmp_path, source, name)


def test_a_module_is_named_with_dots_and_its_own_faults_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").write_text("")
    (tmp_path / "house" / "room.py").write_text("def answer(q): return q")
    (tmp_path / "house" / "broken.py").write_text("import nowhere_to_be_found")
    assert load_agent(config_from({"agent": {"path": "house.room"}})).agent("a") == "a"
    assert load_agent(config_from({"agent": {"path": "house.room:answer"}})).agent("a") == "a"
    with pytest.raises(ConfigError, match=r"there is no module 'house.rom'. For a file write ./house/rom.py"):
        load_agent(config_from({"agent": {"path": "house.rom"}}))
    with pytest.raises(AgentError, match="No module named 'nowhere_to_be_found'"):
        load_agent(config_from({"agent": {"path": "house.broken"}}))


def test_a_file_is_imported_with_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_mine.py").write_text("WORD = 'hi'")
    assert found(tmp_path, "from neighbour_of_mine import WORD\ndef answer(q): return WORD").agent("x") == "hi"


def test_a_misspelt_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text("")
    with pytest.raises(ConfigError, match=r"Did you mean 'my_agent\.py'"):
        load_agent(config_from({"agent": {"path": "./my_agnt.py"}}, tmp_path))
