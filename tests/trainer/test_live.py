"""An agent in real use: its calls are kept, what people say is attached, training starts from both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import WORDS, repeat, shouting_model

import agentlightning
from agentlightning import BaseAlgorithm, Policy, Session, Trainer, Trajectory, feedback, last_rollout_id, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.errors import DataError
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.config import load_config


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def kept(folder: Path, **where: Any) -> list[Trajectory]:
    async def read() -> list[Trajectory]:
        store = agentlightning.open_store(folder)
        try:
            return [t async for t in read_trajectories(store, where)]
        finally:
            await store.close()

    return asyncio.run(read())


def parrot(server: FakeOpenAI, folder: Path) -> agentlightning.WrappedAgent:
    return wrap_agent(lambda question: repeat(server, question), name="parrot", store=folder)


def test_a_call_in_real_use_becomes_a_live_rollout(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path)
    assert agent("hello") == "hello"
    agent.collector.flush()
    (rollout,) = kept(tmp_path, split="live")
    assert (rollout.id, rollout.input, rollout.output, rollout.status) == (
        last_rollout_id(),
        "hello",
        "hello",
        "succeeded",
    )
    assert [step.kind for step in rollout.steps] == ["model"] and rollout.reward is None
    assert rollout.steps[0].reply is not None and rollout.steps[0].reply.text == "hello"


def test_what_the_agent_raises_is_kept_and_still_raised(tmp_path: Path) -> None:
    def broken(question: str) -> str:
        raise ValueError("no such order")

    agent = wrap_agent(broken, store=tmp_path)
    with pytest.raises(ValueError, match="no such order"):
        agent("hello")
    agent.collector.flush()
    assert [(t.status, t.error) for t in kept(tmp_path)] == [("failed", "ValueError: no such order")]


def test_async_agents_and_streams_are_kept_to_their_end(server: FakeOpenAI, tmp_path: Path) -> None:
    async def answer(question: str) -> str:
        return await asyncio.to_thread(repeat, server, question)

    async def stream(question: str) -> AsyncIterator[str]:
        for word in (await answer(question)).split():
            yield word

    async def use() -> list[str]:
        assert await wrap_agent(answer, store=tmp_path)("one two") == "one two"
        return [word async for word in wrap_agent(stream, store=tmp_path)("three four")]

    assert asyncio.run(use()) == ["three", "four"]
    wrap_agent(answer, store=tmp_path).collector.flush()
    assert [(t.output, len(t.steps)) for t in kept(tmp_path)] == [("one two", 1), ("threefour", 1)]


def test_many_threads_do_not_mix_their_rollouts(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(agent, WORDS)) == WORDS
    agent.collector.flush()
    rollouts = kept(tmp_path)
    assert sorted(str(t.output) for t in rollouts) == sorted(WORDS)
    assert all(len(t.steps) == 1 and t.steps[0].reply and t.steps[0].reply.text == t.output for t in rollouts)


def test_a_store_that_fails_never_reaches_the_agent(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path / "gone")
    asyncio.run(agent.collector._store.close())
    assert agent("hello") == "hello"
    agent.collector.flush()
    assert agent.collector.num_lost == 1


def test_feedback_attaches_to_the_rollout_it_names(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path)
    agent("hello")
    feedback(last_rollout_id() or "", 4, scale=(1, 5), comment="nearly", store=tmp_path)
    (rollout,) = kept(tmp_path)
    assert [(r.value, r.reason, r.source) for r in rollout.rewards] == [(0.75, "nearly", "human")]


@pytest.mark.parametrize(
    ("given", "said"), [({"rating": 4}, "not on the scale 0 to 1"), ({}, "says nothing"), ({"rating": -1}, "scale")]
)
def test_feedback_that_makes_no_sense_is_refused(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        feedback("r-1", store=tmp_path, **given)


def test_training_starts_from_what_the_agent_was_asked(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path / "live")
    for word in WORDS[:24]:
        agent(word)
        feedback(last_rollout_id() or "", correction=f"LOUD {word.upper()}", store=tmp_path / "live")
    trainer = Trainer(agent, store=str(tmp_path / "live"), output_dir=tmp_path / "out", max_epochs=1, progress=False)
    result = trainer.train("live")
    assert (result.verdict, result.baseline, result.final) == ("improved", 0.0, 1.0)


def test_a_configuration_trains_from_real_use_and_tests_on_a_file(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path / "live")
    for word in WORDS[:16]:
        agent(word)
        feedback(last_rollout_id() or "", correction=f"LOUD {word.upper()}", store=tmp_path / "live")
    rows = [f'{{"input": "{word} too", "expected": "LOUD {word.upper()} TOO"}}' for word in WORDS[16:24]]
    (tmp_path / "test.jsonl").write_text("\n".join(rows))
    (tmp_path / "c.yaml").write_text(
        "store: ./live\ntasks: {train: live, test: test.jsonl}\ntrainer: {max_epochs: 1, progress: off}\n"
    )
    result = Trainer(agent, config=tmp_path / "c.yaml", output_dir=tmp_path / "out").train()
    assert (result.verdict, result.num_test_tasks) == ("improved", 8)
    assert load_config(tmp_path / "c.yaml", ["tasks=live"]).task_sources() == {"train": "live"}


def test_pieces_of_text_are_kept_as_the_text_they_are(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = wrap_agent(lambda question: (piece for piece in ("all ", "of ", question)), name="parrot", store=tmp_path)
    assert list(agent("it")) == ["all ", "of ", "it"]
    agent.collector.flush()
    assert kept(tmp_path)[0].output == "all of it"


class Watcher(BaseAlgorithm[AlgorithmConfig]):
    """Says what it sees of real use."""

    name = "watcher"

    async def train(self, session: Session) -> Policy:
        seen = session.trajectories({"split": "live"})
        session.log(f"saw {[(t.output, t.reward) for t in seen]}")
        return session.policy


def test_an_algorithm_sees_real_use_with_peoples_ratings(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = parrot(server, tmp_path / "live")
    agent("good")
    feedback(last_rollout_id() or "", True, store=tmp_path / "live")
    agent("unrated")
    agent.collector.flush()
    trainer = Trainer(
        agent, algorithm=Watcher(), store=str(tmp_path / "live"), output_dir=tmp_path / "out", progress=False
    )
    result = trainer.train([{"input": f"{word} a", "expected": "x"} for word in WORDS])
    assert "its last word: saw [('good', 1.0), ('unrated', None)]" in result.untried


def test_training_from_real_use_that_never_was_is_an_error(server: FakeOpenAI, tmp_path: Path) -> None:
    trainer = Trainer(parrot(server, tmp_path), store=str(tmp_path), progress=False, output_dir=tmp_path / "out")
    with pytest.raises(DataError, match="no live rollouts of agent 'parrot'"):
        trainer.train("live")
