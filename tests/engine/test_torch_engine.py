"""The engine as agents and trainers use it: from threads and loops, over several turns, while it learns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.engine.test_tool_formats import TOOLS
from tests.models_made_here import Family, make_model, make_tokenizer, save_model

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning
from agentlightning.engine.torch.engine import TorchEngine
from agentlightning.engine.torch.loading import Loaded
from agentlightning.errors import ContextTooLong, DataError, ModelError

QUESTION: Message = {"role": "user", "content": "What is the weather in Paris?"}


def make_engine(family: Family = "qwen", **options: Any) -> TorchEngine:
    return TorchEngine(Loaded(make_model(family), make_tokenizer(family), "made-here"), **options)


@pytest.fixture
def engine() -> Iterator[TorchEngine]:
    made = make_engine()
    yield made
    asyncio.run(made.close())


def call(*messages: Message, tools: list[dict[str, Any]] | None = None, **params: Any) -> Call:
    return Call("a", "m", list(messages or [QUESTION]), tools=tools or [], params={"max_tokens": 8, "seed": 1} | params)


def answer(future: Future[Reply]) -> Reply:
    return future.result(60)


def fresh_logprobs(engine: TorchEngine, reply: Reply, weights: str = "") -> list[float]:
    return asyncio.run(engine.score([lesson(reply)], weights=weights))[0]


def lesson(reply: Reply) -> Sample:
    assert reply.prompt_ids is not None
    assert reply.completion_ids is not None
    return Sample(
        prompt_ids=reply.prompt_ids,
        completion_ids=reply.completion_ids,
        mask=[1] * len(reply.completion_ids),
        agent="a",
        rollout_id="r",
        segment_id=0,
    )


LEARNING = Learning(loss="cross_entropy", learning_rate=0.05)


def test_a_folder_is_enough(tmp_path: Path) -> None:
    engine = TorchEngine(save_model(tmp_path / "small"), device="cpu")
    reply = answer(engine.sample(call()))
    assert (engine.model, engine.max_context_tokens) == (str(tmp_path / "small"), 2048)
    assert reply.logprobs == pytest.approx(fresh_logprobs(engine, reply), abs=1e-4)
    asyncio.run(engine.close())


@pytest.mark.parametrize("family", ["qwen", "llama", "plain"])
def test_turns_are_token_exact_and_their_logprobs_those_of_a_fresh_pass(family: Family) -> None:
    engine = make_engine(family)
    messages, earlier = [QUESTION], list[int]()
    for turn in range(4):
        noise = [engine.sample(call(content_of(f"Noise {i}"), seed=i)) for i in range(turn)]
        reply = answer(engine.sample(call(*messages, seed=turn), rollout_id="r"))
        assert reply.prompt_ids is not None
        assert reply.completion_ids is not None
        assert reply.prompt_ids[: len(earlier)] == earlier
        assert reply.logprobs == pytest.approx(fresh_logprobs(engine, reply), abs=1e-4)
        earlier = reply.prompt_ids + reply.completion_ids
        messages += [reply.message, {"role": "user", "content": "And then?"}]
        assert all(answer(future) for future in noise)
    assert (engine.counts["continued"], engine.counts["rewritten"]) == (3, 0)
    assert reply.usage is not None
    assert reply.usage.cached_tokens > len(earlier) // 2
    asyncio.run(engine.close())


def content_of(text: str) -> Message:
    return {"role": "user", "content": text}


def test_thirty_two_threads_are_answered_each_with_its_own(engine: TorchEngine) -> None:
    def ask(place: int) -> Reply:
        return answer(engine.sample(call(content_of(f"Number {place}"), seed=place, max_tokens=2 + place % 9)))

    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(ask, range(32)))
    for place, reply in enumerate(replies):
        assert reply.usage is not None
        assert reply.usage.output_tokens <= 2 + place % 9
        assert f"Number {place}" in make_tokenizer().decode(reply.prompt_ids or [])


def test_thirty_two_coroutines_are_answered(engine: TorchEngine) -> None:
    async def all_of_them() -> list[Reply]:
        asks = [engine.sample(call(content_of(f"Number {place}"), seed=place)) for place in range(32)]
        return list(await asyncio.gather(*map(asyncio.wrap_future, asks)))

    assert len({msgspec.json.encode(reply.completion_ids) for reply in asyncio.run(all_of_them())}) > 16


def test_a_seed_repeats_an_answer(engine: TorchEngine) -> None:
    one, crowd = answer(engine.sample(call(seed=5))), [engine.sample(call(seed=i)) for i in range(9)]
    assert answer(engine.sample(call(seed=5))).completion_ids == one.completion_ids
    assert answer(crowd[5]).completion_ids == one.completion_ids


def test_n_answers_are_drawn_of_one_reading(engine: TorchEngine) -> None:
    reply = answer(engine.sample(call(content_of("What is the weather? " * 10), n=4)))
    assert len(reply.alternatives) == 3
    assert reply.usage is not None
    assert engine.counts["read"] == reply.usage.input_tokens


def test_the_end_mark_is_sampled_and_not_told() -> None:
    model, tokenizer = make_model(), make_tokenizer()
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(0, 384, 3)]
    engine = TorchEngine(Loaded(model, tokenizer, "made-here"))
    reply = answer(engine.sample(call(max_tokens=200)))
    assert reply.completion_ids is not None
    assert reply.finish_reason == "stop"
    assert reply.completion_ids[-1] % 3 == 0 or reply.completion_ids[-1] == tokenizer.eos_token_id
    assert reply.text == tokenizer.decode(reply.completion_ids[:-1])
    asyncio.run(engine.close())


def test_a_tool_that_must_be_called_is(engine: TorchEngine) -> None:
    choice = {"type": "function", "function": {"name": "search"}}
    reply = answer(engine.sample(call(tools=TOOLS, tool_choice=choice)))
    assert make_tokenizer().decode(reply.prompt_ids or []).endswith('{"name": "search", "arguments": ')
    assert reply.logprobs == pytest.approx(fresh_logprobs(engine, reply), abs=1e-4)


def test_a_call_that_is_too_long_says_so(engine: TorchEngine) -> None:
    with pytest.raises(ContextTooLong, match="reads 2048"):
        answer(engine.sample(call(content_of("weather " * 2048))))
    assert answer(engine.sample(call()))


@pytest.mark.parametrize("params", [{"temperature": -1}, {"n": 0}, {"top_p": 0}, {"stop": 5}, {"max_tokens": "many"}])
def test_values_that_mean_nothing_are_refused(engine: TorchEngine, params: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        answer(engine.sample(call(**params)))


def test_a_model_without_a_chat_template_says_what_to_do() -> None:
    engine = TorchEngine(Loaded(make_model(), make_tokenizer(template=""), "base-model"))
    with pytest.raises(ModelError, match=r"base-model has no chat template.*instruct version"):
        answer(engine.sample(call()))
    asyncio.run(engine.close())


def test_an_update_changes_answers_under_the_adapter_s_name_and_no_others(engine: TorchEngine) -> None:
    async def learn() -> str:
        reply = await asyncio.wrap_future(engine.sample(call(seed=3)))
        await engine.update([lesson(reply)], adapter="coder", learning=LEARNING)
        return await engine.snapshot("coder")

    version = asyncio.run(learn())
    for weights in ("", "coder", version):
        reply = answer(engine.sample(call(), weights=weights, rollout_id=f"r{weights}"))
        assert reply.logprobs == pytest.approx(fresh_logprobs(engine, reply, weights), abs=1e-4)
    base = fresh_logprobs(engine, reply)
    assert reply.logprobs != pytest.approx(base, abs=1e-3)


def test_no_request_is_lost_while_weights_are_swapped(engine: TorchEngine) -> None:
    async def sample_and_learn() -> list[Reply]:
        first = await asyncio.wrap_future(engine.sample(call(seed=3)))
        names, asks = ["", "coder"], list[Future[Reply]]()
        for round in range(4):
            asks += [engine.sample(call(seed=i, max_tokens=30), weights=names[i % len(names)]) for i in range(8)]
            await engine.update([lesson(first)] * 3, adapter="coder", learning=LEARNING)
            names.append(await engine.snapshot("coder"))
            asks += [engine.sample(call(seed=i), weights=name) for i, name in enumerate(names)]
            assert len(set(names)) == len(names), round
        return list(await asyncio.gather(*map(asyncio.wrap_future, asks)))

    replies = asyncio.run(sample_and_learn())
    assert len(replies) == 32 + 3 + 4 + 5 + 6
    assert all(reply.completion_ids for reply in replies)


def test_sampling_goes_on_between_the_passes_of_an_update(engine: TorchEngine) -> None:
    async def during() -> tuple[bool, int]:
        first = await asyncio.wrap_future(engine.sample(call(seed=3)))
        learning = msgspec.structs.replace(LEARNING, max_tokens_per_pass=32)
        learned = asyncio.ensure_future(engine.update([lesson(first)] * 40, adapter="coder", learning=learning))
        await asyncio.sleep(0)
        reply = await asyncio.wrap_future(engine.sample(call(max_tokens=2)))
        was_first = not learned.done()
        return was_first, (await learned).num_steps + len(reply.completion_ids or [])

    assert asyncio.run(during()) == (True, 3)


def test_an_update_that_fails_fails_alone(engine: TorchEngine) -> None:
    with pytest.raises(DataError):
        asyncio.run(engine.update([], adapter="coder", learning=LEARNING))
    assert answer(engine.sample(call(), weights="coder"))


def test_unknown_weights_are_an_error_of_their_call(engine: TorchEngine) -> None:
    bad, good = engine.sample(call(), weights="w-000000000000"), engine.sample(call())
    with pytest.raises(ModelError, match="w-000000000000"):
        answer(bad)
    assert answer(good)


def test_a_saved_version_answers_as_before(engine: TorchEngine, tmp_path: Path) -> None:
    async def train_and_save() -> str:
        reply = await asyncio.wrap_future(engine.sample(call(seed=3)))
        await engine.update([lesson(reply)], adapter="coder", learning=LEARNING)
        version = await engine.snapshot("coder")
        await engine.save(version, tmp_path / "saved")
        return version

    version = asyncio.run(train_and_save())
    other = make_engine()
    assert asyncio.run(other.load(tmp_path / "saved")) == version
    theirs, ours = (answer(e.sample(call(seed=9), weights=version)) for e in (other, engine))
    assert theirs.completion_ids == ours.completion_ids
    asyncio.run(other.close())


def test_a_forgotten_rollout_is_read_anew(engine: TorchEngine) -> None:
    reply = answer(engine.sample(call(), rollout_id="r"))
    engine.forget("r")
    answer(engine.sample(call(QUESTION, reply.message, QUESTION), rollout_id="r"))
    assert engine.counts["continued"] == 0


def test_a_closed_engine_answers_with_an_error() -> None:
    engine = make_engine()
    pending = engine.sample(call(max_tokens=2000, temperature=0))
    asyncio.run(engine.close())
    late = engine.sample(call())
    for future in (pending, late):
        if future.exception(10):
            with pytest.raises(ModelError, match="closed"):
                future.result()
    assert late.exception(0)


def test_a_conversation_is_encoded_with_its_agent(engine: TorchEngine) -> None:
    sample = asyncio.run(engine.encode([QUESTION, {"role": "assistant", "content": "Fine."}], agent="coder"))
    assert sample.agent == "coder"
    assert make_tokenizer().decode(sample.completion_ids) == "Fine.<|im_end|>"
