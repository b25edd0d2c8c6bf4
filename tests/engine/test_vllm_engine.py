"""The vLLM engine against a server of its own process that checks what it is asked and answers with a real model."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.engine.test_tool_formats import TOOLS
from tests.engine.test_torch_engine import answer, call, lesson
from tests.engine.vllm_made_here import read_flags
from tests.models_made_here import save_model

from agentlightning.engine.base import Learning
from agentlightning.engine.vllm.engine import VllmEngine
from agentlightning.engine.vllm.plan import MAX_LOADED, ServerPlan
from agentlightning.errors import ConfigError, MissingExtra, ModelError

LEARNING = Learning(loss="cross_entropy", learning_rate=0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What stands for the `vllm` command."""
    path = tmp_path_factory.mktemp("bin") / "vllm"
    script = Path(__file__).parent / "vllm_made_here.py"
    path.write_text(f'#!/bin/sh\nOMP_NUM_THREADS=1 exec {sys.executable} {script} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def engine(model: str, program: str) -> Iterator[VllmEngine]:
    made = VllmEngine(model, command=program, rank=4, start_timeout_seconds=120)
    yield made
    asyncio.run(made.close())


def seen(engine: VllmEngine) -> dict[str, Any]:
    return httpx.get(engine.server.base_url.removesuffix("/v1") + "/test/seen").json()


def learned_version(engine: VllmEngine, adapter: str, *, rate: float = 0.05) -> str:
    async def learn() -> str:
        sample = await engine.encode([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
        await engine.update([sample], adapter=adapter, learning=msgspec.structs.replace(LEARNING, learning_rate=rate))
        return await engine.snapshot(adapter)

    return asyncio.run(learn())


def test_an_answer_has_the_ids_that_were_drawn_and_the_logprobs_a_fresh_pass_gives(engine: VllmEngine) -> None:
    reply = answer(engine.sample(call(temperature=1.0, max_tokens=12)))
    assert reply.usage.output_tokens == len(reply.completion_ids or [])
    assert reply.usage.cached_tokens == 4
    assert reply.logprobs == pytest.approx(asyncio.run(engine.score([lesson(reply)]))[0], abs=1e-4)


def test_logprobs_are_told_at_the_temperature_that_was_drawn_with(engine: VllmEngine) -> None:
    hot = answer(engine.sample(call(temperature=2.0)))
    assert hot.logprobs != pytest.approx(asyncio.run(engine.score([lesson(hot)]))[0], abs=1e-2)


def test_logprobs_of_a_cut_distribution_are_not_told(engine: VllmEngine) -> None:
    reply = answer(engine.sample(call(top_k=3)))
    assert reply.completion_ids
    assert reply.logprobs is None


def test_greedy_answers_are_the_torch_engines(engine: VllmEngine, model: str) -> None:
    from agentlightning.engine.torch.engine import TorchEngine

    asked = call(temperature=0, max_tokens=10, tools=TOOLS)
    torch_engine = TorchEngine(model)
    theirs = answer(torch_engine.sample(asked))
    asyncio.run(torch_engine.close())
    ours = answer(engine.sample(asked))
    assert (ours.prompt_ids, ours.completion_ids) == (theirs.prompt_ids, theirs.completion_ids)
    assert ours.message == theirs.message
    assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_a_second_turn_begins_with_the_ids_of_the_first(engine: VllmEngine) -> None:
    first = answer(engine.sample(call(seed=3), rollout_id="two turns"))
    following = [{"role": "user", "content": "What is the weather in Paris?"}, first.message]
    second = answer(engine.sample(call(*following, {"role": "user", "content": "And?"}), rollout_id="two turns"))
    before = [*(first.prompt_ids or []), *(first.completion_ids or [])]
    assert (second.prompt_ids or [])[: len(before)] == before
    engine.forget("two turns")


def test_equal_seeds_give_equal_answers_and_choices_differ(engine: VllmEngine) -> None:
    one, same = (answer(engine.sample(call(seed=9, n=3))) for _ in range(2))
    assert one.completion_ids == same.completion_ids
    texts = [str(m.get("content")) for m in (one.message, *one.alternatives)]
    assert len(set(texts)) > 1


def test_a_version_is_loaded_into_the_server_and_answers(engine: VllmEngine) -> None:
    version = learned_version(engine, "learner")
    assert version in seen(engine)["loaded"]
    reply = answer(engine.sample(call(seed=5), weights=version))
    assert seen(engine)["asked"][-1] == version
    assert reply.logprobs == pytest.approx(asyncio.run(engine.score([lesson(reply)], weights=version))[0], abs=1e-4)


def test_an_adapters_name_means_its_weights_as_they_are_now(engine: VllmEngine) -> None:
    first = learned_version(engine, "moving")
    answer(engine.sample(call(), weights="moving"))
    assert seen(engine)["asked"][-1] == first
    second = learned_version(engine, "moving")
    answer(engine.sample(call(), weights="moving"))
    assert seen(engine)["asked"][-1] == second != first


def test_versions_long_unused_are_unloaded_and_come_back_when_asked_for(engine: VllmEngine) -> None:
    versions = [learned_version(engine, "many", rate=0.01) for _ in range(MAX_LOADED + 2)]
    after = seen(engine)
    assert len(after["loaded"]) == MAX_LOADED
    assert after["most_loaded"] == MAX_LOADED + 1
    answer(engine.sample(call(), weights=versions[0]))
    assert versions[0] in seen(engine)["loaded"]


def test_no_request_is_lost_when_weights_change_under_many(engine: VllmEngine) -> None:
    old = learned_version(engine, "swapped")
    futures = [engine.sample(call(seed=i), weights=old) for i in range(12)]
    new = learned_version(engine, "swapped")
    futures += [engine.sample(call(seed=i), weights=new) for i in range(4)]
    assert all(answer(future).completion_ids for future in futures)


def test_a_server_killed_with_requests_in_flight_is_started_again_and_they_are_answered(engine: VllmEngine) -> None:
    version = learned_version(engine, "survivor")
    httpx.post(engine.server.base_url.removesuffix("/v1") + "/test/hold")
    futures = [engine.sample(call(seed=i), weights=weights) for i, weights in enumerate(["", version])]
    until = time.monotonic() + 30
    while seen(engine)["asked"][-2:] not in (["", version], [version, engine.server.model_name]):
        if set(seen(engine)["asked"][-2:]) == {engine.server.model_name, version}:
            break
        assert time.monotonic() < until
    pid = engine.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    replies = [answer(future) for future in futures]
    assert all(reply.completion_ids for reply in replies)
    assert engine.counts["restarts"] == 1
    assert version in seen(engine)["loaded"]


def test_a_running_server_is_joined(engine: VllmEngine, model: str) -> None:
    os.environ["TEST_VLLM_KEY"] = engine.server._key  # pyright: ignore[reportPrivateUsage]
    joined = VllmEngine(model, base_url=engine.server.base_url, api_key_env="TEST_VLLM_KEY", rank=4)
    assert answer(joined.sample(call())).completion_ids
    asyncio.run(joined.close())
    del os.environ["TEST_VLLM_KEY"]
    assert answer(engine.sample(call())).completion_ids, "the server is not ours to stop"


def test_a_server_that_tells_raw_logprobs_is_refused(model: str, program: str) -> None:
    import subprocess

    from agentlightning.engine.vllm.server import _free_port  # pyright: ignore[reportPrivateUsage]

    port = _free_port()
    process = subprocess.Popen([program, "serve", model, "--port", str(port)])
    try:
        with pytest.raises(ModelError, match="--logprobs-mode processed_logprobs"):
            VllmEngine(model, base_url=f"http://127.0.0.1:{port}/v1", start_timeout_seconds=60)
    finally:
        process.kill()
        process.wait()


def test_a_server_that_cannot_start_says_what_it_said(model: str, program: str) -> None:
    with pytest.raises(ModelError, match="unrecognized arguments: --no-such-flag"):
        VllmEngine(model, command=program, server_options={"no-such-flag": 1}, start_timeout_seconds=60)


def test_a_machine_without_vllm_is_told_how_to_get_it(model: str) -> None:
    with pytest.raises(MissingExtra, match=r"engine\.command"):
        VllmEngine(model, command="/nowhere/vllm")


def test_the_command_line_is_one_that_vllm_reads() -> None:
    plan = ServerPlan(
        model="m", rank=20, dtype="bfloat16", max_context_tokens=4096, options={"tensor_parallel_size": 2}
    )
    flags = read_flags(plan.arguments(8123)[1:])
    assert (flags.max_lora_rank, flags.port, flags.tensor_parallel_size, flags.max_model_len) == (32, 8123, 2, 4096)
    assert flags.logprobs_mode == "processed_logprobs"


def test_settings_that_cannot_be_are_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="lora or qlora"):
        VllmEngine(model, method="full")
    with pytest.raises(ConfigError, match="rank 512"):
        ServerPlan(model="m", rank=1000).arguments(1)
    with pytest.raises(ConfigError, match="logprobs_mode"):
        ServerPlan(model="m", options={"logprobs_mode": "raw_logprobs"}).arguments(1)
