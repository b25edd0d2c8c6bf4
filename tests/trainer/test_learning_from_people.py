"""From what people said to a better model, in whole runs: live rollouts are compared, the next run learns from that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI, Seen
from tests.trainer.trained_worlds import CLIENT, demonstrations, questions, spontaneous, trainer

from agentlightning import BaseAlgorithm, Policy, Session, Trainer, Trajectory, feedback, open_store, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.data.record import make_record
from agentlightning.errors import DataError
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.config import Config
from agentlightning.trainer.config_sections import RewardPart
from agentlightning.trainer.plan import unguarded
from agentlightning.trainer.resolve import resolve_reward, resolve_stages

SETTINGS = {"learning_rate": 5e-3, "epochs": 4, "batch_size": 8}
REWARD_MODEL = resolve_reward([RewardPart(name="reward_model", params=SETTINGS)], Path())


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    """The model in real use: it says ok and no in turn."""
    turns = count()

    def answer(seen: Seen) -> str:
        return ("ok", "no")[next(turns) % 2]

    with FakeOpenAI(answer) as running:
        yield running


def asked(server: FakeOpenAI, question: str) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": question}], "temperature": 0.0, "max_tokens": 4}
    response = CLIENT.post(f"{server.base_url}/chat/completions", json=body)
    return response.raise_for_status().json()["choices"][0]["message"]["content"]


def live(server: FakeOpenAI, folder: Path, num_questions: int) -> list[tuple[Trajectory, Trajectory]]:
    """Each question asked twice in real use: the rollouts that say ok, and those that say no."""

    used = wrap_agent(lambda question: asked(server, question), name="small", store=folder / "data")
    for i in range(num_questions):
        for _ in range(2):
            used(f"say {200 + i}")
    used.collector.flush()
    found = asyncio.run(_rollouts(folder, {"split": "live"}))
    by_task: dict[str, dict[str, Trajectory]] = {}
    for rollout in found:
        by_task.setdefault(rollout.task, {})[str(rollout.output)] = rollout
    return [(pair["ok"], pair["no"]) for pair in by_task.values()]


async def _rollouts(folder: Path, where: dict[str, Any]) -> list[Trajectory]:
    store = open_store(folder / "data")
    try:
        return [t async for t in read_trajectories(store, where)]
    finally:
        await store.close()


def choose(folder: Path, pairs: list[tuple[Trajectory, Trajectory]]) -> None:
    async def write() -> None:
        store = open_store(folder / "data")
        bodies = [
            {"kind": "choice", "better": better.id, "worse": worse.id, "rater": "Ann", "comment": "", "at": float(i)}
            for i, (better, worse) in enumerate(pairs)
        ]
        await store.append([make_record("feedback", f"f-{i}", body, run="live") for i, body in enumerate(bodies)])
        await store.close()

    asyncio.run(write())


def undecided(folder: Path) -> dict[str, Any]:
    """A stage after which it says ok or no, as it comes."""
    data = str(demonstrations(folder, 64, answers=("ok", "no")))
    return {"name": "sft", "params": {"data": data, "epochs": 6, "patience": 6, "learning_rate": 1e-2, "batch_size": 8}}


class Watching(BaseAlgorithm[AlgorithmConfig]):
    """Learns nothing; looks at what it was offered."""

    def __init__(self) -> None:
        super().__init__()
        self.live: list[Trajectory] = []

    def train(self, session: Session) -> Policy:
        self.live = session.trajectories({"split": "live"})
        return session.policy


def splits() -> dict[str, Any]:
    return {"train": questions(24), "validation": questions(44)[24:], "test": questions(64)[44:]}


def test_dpo_learns_from_peoples_choices_alone(server: FakeOpenAI, tmp_path: Path) -> None:
    choose(tmp_path, live(server, tmp_path, 24))
    dpo = {"name": "dpo", "params": {"learning_rate": 2e-3, "epochs": 1, "batch_size": 8, "source": "people"}}
    result = trainer(tmp_path, [undecided(tmp_path), dpo], of=spontaneous()).train(splits())
    means = {entry.stage: entry.validation_mean for entry in result.history if entry.decision == "accepted"}
    before, after = means["1-sft"], means["2-dpo"]
    assert before is not None and after is not None and after > before
    assert not [t for t in asyncio.run(_rollouts(tmp_path, {"stage": "2-dpo"})) if t.split == "train"]


def test_dpo_without_choices_says_how_to_get_them(tmp_path: Path) -> None:
    dpo = {"name": "dpo", "params": {"source": "people"}}
    with pytest.raises(DataError, match=r"people made 0 choices.*rate RUN --pairs"):
        trainer(tmp_path, dpo).train(questions(9))


def test_choices_about_tasks_of_the_held_out_test_teach_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    pairs = live(server, tmp_path, 9)
    choose(tmp_path, pairs)
    tasks = {"train": questions(6), "validation": questions(9)[6:], "test": [str(ok.input) for ok, _ in pairs]}
    with pytest.raises(DataError, match="people made 0 choices"):
        trainer(tmp_path, {"name": "dpo", "params": {"source": "people"}}).train(tasks)


def test_a_reward_model_learns_what_people_prefer_and_rates_the_rest(server: FakeOpenAI, tmp_path: Path) -> None:
    pairs = live(server, tmp_path, 48)
    choose(tmp_path, pairs[:40])
    rated = pairs[41][1].id
    feedback(rated, 0.25, store=tmp_path / "data")
    watcher = Watching()
    result = trainer(tmp_path, watcher, reward=REWARD_MODEL).train(splits())
    live_rewards = {t.id: t.reward for t in watcher.live}
    assert live_rewards[rated] == 0.25
    liked, other = ([live_rewards[pair[side].id] for pair in pairs[42:]] for side in (0, 1))
    assert all(
        better is not None and worse is not None and better > 0.5 > worse
        for better, worse in zip(liked, other, strict=True)
    )
    assert any("it agrees with people on 100% of" in note for note in result.notes)
    assert "a reward model" in result.reward_source
    given = [r for t in asyncio.run(_rollouts(tmp_path, {"split": "validation"})) for r in t.rewards]
    assert given and all(r.name == "reward_model" and r.source == "judge" and 0 < r.value < 1 for r in given)
    (kept,) = asyncio.run(_logs(tmp_path, "reward_model"))
    assert kept["reward_model"]["trust"]["held_out"]["low"] > 0.5


async def _logs(folder: Path, key: str) -> list[dict[str, Any]]:
    store = open_store(folder / "data")
    try:
        return [s.record.body async for s in store.read("log") if key in s.record.body]
    finally:
        await store.close()


def test_people_who_contradict_themselves_make_no_reward_model(server: FakeOpenAI, tmp_path: Path) -> None:
    pairs = live(server, tmp_path, 24)
    choose(tmp_path, [(ok, no) if i % 2 else (no, ok) for i, (ok, no) in enumerate(pairs)])
    with pytest.raises(DataError, match=r"reward model is refused.*rate RUN --pairs"):
        trainer(tmp_path, undecided(tmp_path), reward=REWARD_MODEL).train(splits())


def test_a_reward_model_needs_choices(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 ratings and choices.*rate RUN --pairs"):
        trainer(tmp_path, undecided(tmp_path), reward=REWARD_MODEL).train(splits())


def test_a_reward_model_needs_an_engine(server: FakeOpenAI, tmp_path: Path) -> None:
    choose(tmp_path, live(server, tmp_path, 12))
    hosted = Trainer(
        wrap_agent(lambda question: asked(server, question), name="small"),
        reward=REWARD_MODEL, algorithm=Watching(), data_dir=tmp_path / "data", output_dir=tmp_path / "out",
        progress=False,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"trained on an engine.*models\.policy"):
        hosted.train(splits())


def test_after_some_new_policies_the_run_asks_for_fresh_choices(server: FakeOpenAI, tmp_path: Path) -> None:
    choose(tmp_path, live(server, tmp_path, 40))
    reward = resolve_reward([RewardPart(name="reward_model", params={**SETTINGS, "max_updates": 1})], Path())
    result = trainer(tmp_path, undecided(tmp_path), reward=reward).train(splits())
    assert any("updated 1 times since people last checked" in note for note in result.notes)


def test_a_resumed_run_judges_with_the_reward_model_it_had_whatever_people_said_meanwhile(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    pairs = live(server, tmp_path, 48)
    choose(tmp_path, pairs[:40])
    first, second = Watching(), Watching()
    began = trainer(tmp_path, first, reward=REWARD_MODEL).train(splits())
    choose(tmp_path, [(no, ok) for ok, no in pairs])  # everybody has changed their mind
    again = trainer(tmp_path, second, reward=REWARD_MODEL).train(splits(), resume=began.run_id)
    assert {t.id: t.reward for t in second.live} == {t.id: t.reward for t in first.live}
    assert any("as it was before the interruption" in note for note in again.notes)
    assert len(asyncio.run(_logs(tmp_path, "reward_model"))) == 1, "it was trained once"


def test_learning_against_a_reward_model_without_a_pull_back_is_told() -> None:
    config = Config.model_validate({"algorithm": ["sft", {"name": "rl", "params": {"kl": 0.05}}, "grpo"]})
    [told] = unguarded(resolve_stages(None, config))
    assert told.startswith("stage 3-grpo learns against a reward model") and "Set kl" in told
