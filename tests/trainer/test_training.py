"""Whole runs against a real server: an agent gets better, and nothing is claimed that was not measured."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.responses import Response
from tests.servers import FakeOpenAI
from tests.trainer.worlds import CLIENT, PROMPT, loud_tasks, repeat, shouting_model

import agentlightning
from agentlightning import (
    BaseAlgorithm,
    Call,
    Callback,
    Policy,
    Session,
    Trainer,
    TrainingResult,
    emit_reward,
    load_optimized_agent,
    open_store,
    wrap_agent,
)
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.errors import ConfigError
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.policy_folder import read_policy


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def trainer(server: FakeOpenAI, folder: Path, **settings: Any) -> Trainer:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    return Trainer(
        agent, data_dir=folder / "data", output_dir=folder / "out", progress=False, **{"max_epochs": 1, **settings}
    )


def test_an_agent_gets_better_and_is_handed_back(server: FakeOpenAI, tmp_path: Path) -> None:
    made = trainer(server, tmp_path)
    result = made.train(loud_tasks())
    assert (result.verdict, result.baseline, result.final) == ("improved", 0.0, 1.0)
    assert result.interval is not None and result.interval[0] > 0
    assert result.prompts == {"parrot:system": f"{PROMPT} Always shout."}
    assert made.load_optimized_agent()("hello") == "LOUD HELLO"
    assert made.agent("hello") == "hello"


def test_the_output_folder_is_enough_to_use_the_result(server: FakeOpenAI, tmp_path: Path) -> None:
    trainer(server, tmp_path).train(loud_tasks())
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} >= {"policy.yaml", "report.html", "result.json", "trajectories.jsonl"}
    better = load_optimized_agent(out, wrap_agent(lambda q: repeat(server, q), name="parrot"))
    assert better("hello") == "LOUD HELLO"
    assert TrainingResult.from_json((out / "result.json").read_bytes()).verdict == "improved"


def test_the_test_tasks_are_touched_once_at_the_end(server: FakeOpenAI, tmp_path: Path) -> None:
    tasks = loud_tasks()
    splits = {"train": tasks[:10], "validation": tasks[10:16], "test": tasks[16:]}
    trainer(server, tmp_path).train(splits)
    secret = {str(task.input) for task in splits["test"]}
    asked = [str(seen.json["messages"][-1]["content"]) for seen in server.requests]
    hits = [index for index, text in enumerate(asked) if text in secret]
    assert len(hits) == 2 * len(secret)
    assert hits == list(range(len(asked) - len(hits), len(asked)))
    assert not any(text in prompt for text in secret for prompt in asked if "<runs>" in prompt)


def test_a_prompt_the_baseline_shows_too_seldom_is_looked_for_in_a_few_training_tasks(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    def answer(question: str) -> str:
        is_odd = int(question.split()[-1]) % 2
        other = "You are the librarian. Repeat the question of the reader word by word, and add nothing to it."
        messages = [{"role": "system", "content": other if is_odd else PROMPT}, {"role": "user", "content": question}]
        answered = CLIENT.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
        return answered.json()["choices"][0]["message"]["content"]

    tasks = loud_tasks(30)
    even, odd = tasks[0::2], tasks[1::2]
    splits = {"train": [*even[:6], *odd[:8]], "validation": [*even[6:9], odd[8]], "test": "none"}
    made = Trainer(
        wrap_agent(answer, name="parrot"),
        data_dir=tmp_path / "data",
        output_dir=tmp_path / "out",
        progress=False,
        max_epochs=1,
    )
    result = made.train(splits)
    assert {site.coverage for site in result.policy.sites} == {1.0} and len(result.policy.sites) == 2
    assert not any("left alone" in note for note in result.notes)


def test_an_agent_that_cannot_be_improved_is_kept(server: FakeOpenAI, tmp_path: Path) -> None:
    server.reply(lambda body: "nonsense" if "<runs>" in str(body) else "no")
    result = trainer(server, tmp_path).train(loud_tasks())
    assert result.verdict == "kept original" and result.policy.is_original
    assert load_optimized_agent(tmp_path / "out", lambda q: repeat(server, q))("x") == "no"


def test_with_three_tasks_nothing_is_claimed(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path).train(loud_tasks(3))
    assert result.verdict == "not shown" and result.interval is None
    assert any("3 tasks" in note for note in result.notes)


def test_without_labels_a_judge_scores_with_the_agents_own_model(server: FakeOpenAI, tmp_path: Path) -> None:
    tasks = [task.input for task in loud_tasks(20)]
    result = trainer(server, tmp_path).train(tasks)
    assert "judges each answer" in result.reward_source and "the agent's own" in result.reward_source
    assert result.final == 1.0 and result.cost.judge_calls > 0


def test_optimiser_and_judge_can_be_other_models(
    server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    with FakeOpenAI(shouting_model) as other:
        models = {"optimizer": {"model": "big", "base_url": other.base_url, "api_key_env": "OTHER_KEY"}}
        models["judge"] = {**models["optimizer"], "model": "strict"}
        result = trainer(server, tmp_path, models=models).train([task.input for task in loud_tasks(12)])
        assert {seen.json["model"] for seen in other.requests} == {"big", "strict"}
        assert all(seen.headers["authorization"] == "Bearer sk-other" for seen in other.requests)
        assert len(other.requests) == result.cost.optimizer_calls + result.cost.judge_calls
    assert {seen.json["model"] for seen in server.requests} == {"m"}


def test_a_rate_limited_optimiser_is_waited_for(server: FakeOpenAI, tmp_path: Path) -> None:
    refused = [2]

    def limited(body: dict[str, Any]) -> Any:
        if "<runs>" in str(body) and refused[0]:
            refused[0] -= 1
            return Response('{"error": {"message": "slow down"}}', 429, {"Retry-After": "0"})
        return shouting_model(body)

    server.reply(limited)
    assert trainer(server, tmp_path).train(loud_tasks()).verdict == "improved"


def test_a_truncated_proposal_is_never_adopted(server: FakeOpenAI, tmp_path: Path) -> None:
    def cut(body: dict[str, Any]) -> Any:
        text = shouting_model(body)
        if "<runs>" not in str(body):
            return text
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text}}
        return {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]}

    server.reply(cut)
    result = trainer(server, tmp_path).train(loud_tasks())
    assert result.verdict == "kept original"
    assert {entry.decision for entry in result.history} == {"refused"}


def test_a_reward_function_comes_before_expected(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path, reward=lambda task, run: (float(len(run.output) > 0), "anything")).train(
        loud_tasks()
    )
    assert result.baseline == 1.0 and "the reward function" in result.reward_source


def test_a_judge_can_be_asked_for_by_name(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path, reward="judge").train(loud_tasks(12))
    assert "judges each answer" in result.reward_source and result.cost.judge_calls > 0


def test_what_the_agent_emits_comes_before_expected(server: FakeOpenAI, tmp_path: Path) -> None:
    def agent(question: str) -> str:
        answer = repeat(server, question)
        emit_reward(0.9 if answer.isupper() else 0.1, "as it sounds")
        return answer

    made = Trainer(agent, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False, max_epochs=1)
    result = made.train(loud_tasks())
    assert "emit_reward" in result.reward_source
    assert (result.baseline, result.final) == (pytest.approx(0.1), pytest.approx(0.9))


@pytest.mark.parametrize("kind", ["async", "generator", "async generator"])
def test_every_kind_of_function_can_be_trained(server: FakeOpenAI, tmp_path: Path, kind: str) -> None:
    async def coroutine(question: str) -> str:
        return await asyncio.to_thread(repeat, server, question)

    def generator(question: str) -> Iterator[str]:
        answer = repeat(server, question)
        yield answer[:2]
        yield answer[2:]

    async def async_generator(question: str) -> Any:
        yield await asyncio.to_thread(repeat, server, question)

    agent = {"async": coroutine, "generator": generator, "async generator": async_generator}[kind]
    made = Trainer(agent, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False, max_epochs=1)
    assert made.train(loud_tasks()).verdict == "improved"


def test_everything_is_on_record(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path).train(loud_tasks())

    async def read() -> tuple[list[Any], dict[str, int]]:
        store = open_store(tmp_path / "data")
        runs = [trajectory async for trajectory in read_trajectories(store, {"run": result.run_id})]
        counts: dict[str, int] = {}
        async for stored in store.read(where={"run": result.run_id}):
            counts[stored.record.kind] = counts.get(stored.record.kind, 0) + 1
        await store.close()
        return runs, counts

    runs, counts = asyncio.run(read())
    assert len(runs) == result.cost.task_calls <= counts["rollout"]
    assert counts["step"] == result.cost.task_calls and counts["completion"] == result.cost.optimizer_calls
    assert {"run", "task", "policy", "site", "evaluation", "log"} <= set(counts)
    assert all(run.reward is not None and run.steps and run.features is not None for run in runs)
    assert {run.policy_id for run in runs if run.split == "test"} == {"original", result.policy.id}


def test_a_call_budget_is_hard_and_keeps_the_best(server: FakeOpenAI, tmp_path: Path) -> None:
    for cap in (15, 40, 80):
        server.requests.clear()
        result = trainer(server, tmp_path / str(cap), budget={"calls": cap}).train(loud_tasks())
        assert len(server.requests) <= cap
        assert result.cost.calls == len(server.requests)


def test_an_agent_of_two_prompts_raises_no_false_alarm(
    server: FakeOpenAI, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def two(question: str) -> str:
        messages = [
            {"role": "system", "content": "Think about the weather first."},
            {"role": "user", "content": question},
        ]
        CLIENT.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
        return repeat(server, question)

    made = Trainer(two, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False, max_epochs=1)
    result = made.train(loud_tasks())
    assert result.verdict == "improved" and not any("did not match" in note for note in result.notes)
    assert made.load_optimized_agent()("hello") == "LOUD HELLO"
    assert not recwarn.list


def test_an_agents_failures_are_counted_in_the_notes(server: FakeOpenAI, tmp_path: Path) -> None:
    def picky(question: str) -> str:
        answer = repeat(server, question)
        if "apple" in question:
            raise ValueError("no apples")
        return answer

    made = Trainer(picky, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False, max_epochs=1)
    assert any("no apples" in note for note in made.train(loud_tasks()).notes)


def test_hooks_hear_of_everything(server: FakeOpenAI, tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                heard.append(name)
            return super().__getattribute__(name)

    trainer(server, tmp_path, callbacks=[Listener()]).train(loud_tasks())
    assert heard[0] == "on_run_start" and heard[-1] == "on_run_end"
    assert {
        "on_stage_start",
        "on_rollout_start",
        "on_rollout_end",
        "on_evaluation",
        "on_candidate",
        "on_log",
        "on_note",
    } <= set(heard)


class Shout(BaseAlgorithm):
    """A user's algorithm whose train is not async."""

    name = "shout"
    text = "Shout."

    def train(self, session: Session) -> Policy:  # type: ignore[override]
        waiting: Any = session
        candidate = session.policy.with_prompt(session.sites[0], self.text)
        before, after = waiting.evaluate(session.policy), waiting.evaluate(candidate)
        return candidate if after.mean > before.mean else session.policy


@pytest.mark.parametrize("algorithm", [Shout, Shout(), "tests.trainer.test_training:Shout"])
def test_algorithms_of_ones_own_by_class_object_and_name(server: FakeOpenAI, tmp_path: Path, algorithm: Any) -> None:
    result = trainer(server, tmp_path, algorithm=algorithm).train(loud_tasks())
    assert result.verdict == "improved" and result.prompts == {"parrot:system": "Shout."}


class Loud(Shout):
    """Learns a policy that only its own `predict` knows how to use."""

    name = "loud"

    text = "Whisper."

    def predict(self, call: Call, policy: Policy) -> Call:
        said = call.messages[-1]
        return msgspec.structs.replace(call, messages=[{"role": "system", "content": "shout"}, said])


class LoudInTime(Loud):
    """The same, but it has to wait for something first."""

    async def predict(self, call: Call, policy: Policy) -> Call:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().predict(call, policy)


@pytest.mark.parametrize("name", ["Loud", "LoudInTime"])
def test_what_an_algorithm_predicts_holds_after_training_and_after_loading(
    server: FakeOpenAI, tmp_path: Path, name: str
) -> None:
    made = trainer(server, tmp_path, algorithm=f"tests.trainer.test_training:{name}")
    assert made.train(loud_tasks()).policy.is_original is False
    assert made.load_optimized_agent()("hello") == "LOUD HELLO"
    loaded = load_optimized_agent(tmp_path / "out", wrap_agent(lambda q: repeat(server, q), name="parrot"))
    assert loaded("hello") == "LOUD HELLO"


class WordConfig(AlgorithmConfig):
    word: str = "whisper"
    others: tuple[str, ...] = ()


class Says(BaseAlgorithm[WordConfig]):
    """Its `predict` goes by its settings."""

    Config = WordConfig

    async def train(self, session: Session) -> Policy:
        return session.policy.with_prompt(session.sites[0], "Whatever.")

    def predict(self, call: Call, policy: Policy) -> Call:
        said = call.messages[-1]
        return msgspec.structs.replace(call, messages=[{"role": "system", "content": self.config.word}, said])


def test_a_loaded_predict_has_the_settings_it_was_trained_with(server: FakeOpenAI, tmp_path: Path) -> None:
    algorithm = {"name": "tests.trainer.test_training:Says", "params": {"word": "shout", "others": ["a", "b"]}}
    trainer(server, tmp_path, algorithm=algorithm).train(loud_tasks())
    loaded = load_optimized_agent(tmp_path / "out", wrap_agent(lambda q: repeat(server, q), name="parrot"))
    assert loaded("hello") == "LOUD HELLO"
    assert read_policy(tmp_path / "out").predict_params == {"word": "shout", "others": ["a", "b"]}


class ObjectConfig(AlgorithmConfig):
    tool: Any = None


class HasObject(Says):
    Config = ObjectConfig


def test_settings_that_no_file_can_hold_are_refused_before_anything_is_paid(server: FakeOpenAI, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of them cannot be written there"):
        trainer(server, tmp_path, algorithm=HasObject(tool=object())).train(loud_tasks())
    assert not server.requests


def test_a_cap_in_money_without_a_known_price_is_refused_before_money_is_spent(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="price of 'm' is not known"):
        trainer(server, tmp_path, budget={"usd": 1.0}).train(loud_tasks())
    assert len(server.requests) == 2
    priced = {"usd": 1.0, "prices": {"m": {"input": 1.0, "output": 1.0}}}
    result = trainer(server, tmp_path, budget=priced).train(loud_tasks())
    assert result.cost.usd is not None and result.cost.usd > 0


def test_training_works_inside_a_running_loop(server: FakeOpenAI, tmp_path: Path) -> None:
    async def notebook() -> TrainingResult:
        return trainer(server, tmp_path).train(loud_tasks())

    assert asyncio.run(notebook()).verdict == "improved"


def test_no_key_reaches_store_or_output(server: FakeOpenAI, tmp_path: Path) -> None:
    import openai

    key = "sk-verysecret0123456789abcdef"

    def agent(question: str) -> str:
        with openai.OpenAI(api_key=key, base_url=server.base_url) as client:
            messages: Any = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
            return client.chat.completions.create(model="m", messages=messages).choices[0].message.content or ""

    made = Trainer(agent, data_dir=tmp_path / "d", output_dir=tmp_path / "o", progress=False, max_epochs=1)
    assert made.train(loud_tasks(12)).cost.optimizer_calls > 0
    assert any(key in str(seen.headers) for seen in server.requests if "<runs>" in str(seen.json))
    for file in tmp_path.rglob("*"):
        assert not (file.is_file() and key.encode() in file.read_bytes()), file


def test_results_are_plain_data(server: FakeOpenAI, tmp_path: Path) -> None:
    result = trainer(server, tmp_path).train(loud_tasks())
    assert msgspec.json.decode(result.to_json())["verdict"] == "improved"
    assert "Improved from 0.00" in result.summary() and "+You repeat what you are told. Always shout." in result.diff()
    assert agentlightning.__version__
