"""The verl engine without verl: what it turns away, and why. `tests/verl` has the rest, in verl's environment."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.models_made_here import save_model
from tests.verl.jobs_made_here import small_plan, small_work

from agentlightning import Trainer
from agentlightning.data.call import Call
from agentlightning.engine.base import HandedTask, LearnsElsewhere, Order, Played
from agentlightning.engine.torch.loading import outline
from agentlightning.engine.torch.speaking import Speaker, answered
from agentlightning.engine.verl.configuration import Place, settings, write
from agentlightning.engine.verl.desk import Desk
from agentlightning.engine.verl.engine import VerlEngine
from agentlightning.errors import ConfigError, MissingExtra, ModelError
from agentlightning.trainer.config import Config
from agentlightning.trainer.weights import engine_spec, saved_spec


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


def interpreter(folder: Path, **found: Any) -> Path:
    """A program that says what another environment's Python would say of it."""
    has = {
        "python": [3, 12],
        "gpus": 8,
        "verl": "0.9.1",
        "vllm": "0.24.0",
        "httpx": "0.28.1",
        "transferqueue": "0.1.11",
    }
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{json.dumps(has | found)}'\n")
    path.chmod(0o755)
    return path


def made(model: str, python: str | Path | None, **options: Any) -> VerlEngine:
    return VerlEngine(model, python=python, **options)


def test_without_an_interpreter_it_says_that_verl_has_an_environment_of_its_own(model: str) -> None:
    with pytest.raises(ConfigError, match=r"Set engine\.python"):
        made(model, None)


def test_an_interpreter_that_is_not_there_is_named(model: str) -> None:
    with pytest.raises(ConfigError, match="'/nowhere/bin/python' is no program here"):
        made(model, "/nowhere/bin/python")


@pytest.mark.skipif("verl" in sys.modules, reason="verl is installed")
def test_an_environment_without_verl_gets_the_line_that_installs_it(model: str, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"has no verl\.  .*pip install 'verl\[vllm\]==0\.9\.1'"):
        made(model, interpreter(tmp_path, verl=""))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"verl": "0.8.0"}, r"for verl 0\.9\.x, and .* has 0\.8\.0"),
        ({"verl": "0.90.1"}, r"for verl 0\.9\.x"),
        ({"python": [3, 10]}, "needs Python 3.11 or 3.12"),
        ({"gpus": 0}, r"told to train on 2 GPUs \(trainer.gpus\), and .* counts no GPU"),
        ({"gpus": 1}, "counts 1 GPUs"),
    ],
)
def test_an_environment_in_which_the_job_cannot_run_is_refused(
    model: str, tmp_path: Path, found: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        made(model, interpreter(tmp_path, **found), gpus=2)


def test_an_environment_without_vllm_cannot_answer_before_and_after_learning(model: str, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match="lacks vllm"):
        made(model, interpreter(tmp_path, vllm=""))


def test_all_weights_cannot_be_trained_this_way(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.method full needs engine: torch"):
        made(model, interpreter(tmp_path), method="full")


def test_what_is_no_reinforcement_learning_is_refused(model: str, tmp_path: Path) -> None:
    engine = made(model, interpreter(tmp_path))
    assert isinstance(engine, LearnsElsewhere)
    with pytest.raises(ConfigError, match="takes reinforcement learning over whole"):
        asyncio.run(engine.encode([]))
    asyncio.run(engine.close())


def test_a_stage_of_supervised_learning_is_refused_before_anything_is_run(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage \S*sft: engine verl takes over reinforcement learning"):
        Trainer(
            lambda text: text,
            algorithm=["sft"],
            config={"engine": {"name": "verl", "python": str(interpreter(tmp_path))}},
            models={"policy": model},
            data_dir=tmp_path / "data",
        )


def test_a_saved_policy_is_answered_by_the_torch_engine(tmp_path: Path) -> None:
    given = {
        "engine": {"name": "verl", "python": "envs/verl/bin/python", "rank": 8},
        "models": {"policy": "some/model"},
    }
    config = Config.model_validate(given)
    assert engine_spec(config) == {
        "name": "verl",
        "model": "some/model",
        "python": str(config.path_to("envs/verl/bin/python")),
        "rank": 8,
    }
    assert saved_spec(config) == {"name": "torch", "model": "some/model", "rank": 8}


@pytest.mark.parametrize("method", ["rloo", "reinforce++", "ppo"])
def test_methods_that_would_count_rows_instead_of_rollouts_are_refused(tmp_path: Path, method: str) -> None:
    with pytest.raises(ConfigError, match="counts rollouts and not rows"):
        settings(small_work(tmp_path, method=method), small_plan("m"), Place(tmp_path))


def test_mini_batches_that_do_not_come_out_even_are_refused_with_the_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuts 4 tasks into 3 mini-batches"):
        settings(small_work(tmp_path, num_minibatches=3), small_plan("m"), Place(tmp_path))


def test_fewer_tasks_than_a_round_takes_make_a_smaller_round(tmp_path: Path) -> None:
    work = small_work(tmp_path, training=[HandedTask("t", "q")] * 3, num_minibatches=1)
    assert settings(work, small_plan("m"), Place(tmp_path))["data"]["train_batch_size"] == 3


def test_the_files_of_a_job_tell_no_key(tmp_path: Path) -> None:
    write(small_work(tmp_path), small_plan("m"), Place(tmp_path), desk="http://127.0.0.1:1", start=None)
    [loop] = yaml.safe_load(Place(tmp_path).loop.read_text())
    assert loop["desk"] == "http://127.0.0.1:1" and loop["key_file"].endswith("desk.key")
    assert not Place(tmp_path).key.exists()


def opened(played: Played, model: str) -> tuple[Desk, Speaker]:
    async def play(_: Order) -> Played:
        return played

    return Desk(play), Speaker(outline(model), tool_format=None, max_context=128, max_answer=8, seed=0)


def test_the_desk_hands_a_call_out_once_and_reads_the_answer_token_by_token(model: str) -> None:
    async def scene() -> None:
        desk, speaker = opened(Played([], 0.5), model)
        address = await desk.open()
        key = {"authorization": f"Bearer {desk.key}"}
        call = Call("a", "m", [{"role": "user", "content": "Hi"}], params={"temperature": 1.0, "max_tokens": 3})
        async with httpx.AsyncClient(base_url=address, trust_env=False, headers=key) as worker:
            asked = asyncio.create_task(answered(speaker, call, "r-1", desk.complete))
            given = (await worker.post("/calls/next", json={})).json()
            assert given["rollout"] == "r-1" and given["sampling"]["max_tokens"] == 3
            body = {"token_ids": [5, 6, 7, 8], "logprobs": [-0.1, -0.2, -0.3, -0.4]}
            await worker.post(f"/calls/{given['id']}", json=body)
            reply = await asked
            assert reply.prompt_ids == given["prompt_ids"]
            assert reply.completion_ids == [5, 6, 7], "the row says when it is over, whatever more was drawn"
            assert reply.logprobs == [-0.1, -0.2, -0.3]
            wanted = {"task": "t", "num_updates": 0, "is_validation": False}
            assert (await worker.post("/rollouts", json=wanted)).json()["reward"] == 0.5
            stranger = await worker.post("/rollouts", json=wanted, headers={"authorization": "Bearer guessed"})
            assert stranger.status_code == 401
        await desk.close("over")

    asyncio.run(scene())


def test_calls_that_wait_when_verl_ends_are_told_why(model: str) -> None:
    async def scene() -> None:
        desk, speaker = opened(Played([], 0.5), model)
        await desk.open()
        call = Call("a", "m", [{"role": "user", "content": "Hi"}])
        asked = asyncio.create_task(answered(speaker, call, "r-1", desk.complete))
        await asyncio.sleep(0.05)
        await desk.close("verl has ended")
        with pytest.raises(ModelError, match="verl has ended"):
            await asked

    asyncio.run(scene())
