"""A trajectory that was processed can be stored, holds no secret, and is not changed by processing it again."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from agentlightning.data.call import Call, Reply
from agentlightning.data.processor import clean, clean_step, process
from agentlightning.data.trajectory import Reward, Step, Trajectory

KEY = "sk-abcdefghijklmnop1234"


def rollout(output: Any = "ok", **fields: Any) -> Trajectory:
    fields = {"input": "hello"} | fields
    return Trajectory(id="r", agent_id="a", task="t", timestamp=1.0, output=output, **fields)


def model_step(text: str = "hi", answer: str = "yo", **fields: Any) -> Step:
    call = Call("a", "m", [{"role": "user", "content": text}])
    reply = Reply({"role": "assistant", "content": answer}, completion_ids=[1], prompt_ids=[2], logprobs=[-0.1])
    fields = {"call": call, "reply": reply, "prompt_ids": [2], "completion_ids": [1], "logprobs": [-0.1]} | fields
    return Step(id="s", rollout_id="r", index=0, kind="model", agent="a", started_at=1.0, **fields)


class Colour(enum.Enum):
    RED = "red"


class City(BaseModel):
    name: str
    twins: tuple[str, ...] = ()


@dataclasses.dataclass
class Point:
    x: float
    when: datetime.date


class Opaque:
    def __str__(self) -> str:
        return f"Opaque({KEY})"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, None),
        ("", None),
        (" \n\t", None),
        (" padded ", " padded "),
        (0, 0),
        ([], []),
        ({"a": (1, 2.5, True)}, {"a": [1, 2.5, True]}),
        (float("nan"), "nan"),
        ([float("-inf")], ["-inf"]),
        ({1: "one"}, {"1": "one"}),
        ({"b", "a"}, ["a", "b"]),
        (City(name="Rome", twins=("Paris",)), {"name": "Rome", "twins": ["Paris"]}),
        (Point(1.0, datetime.date(2024, 5, 6)), {"x": 1.0, "when": "2024-05-06"}),
        (Reward(1.0), msgspec.structs.asdict(Reward(1.0))),
        (Colour.RED, "red"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (Opaque(), "Opaque([secret])"),
        ("half a \ud83d pair", "half a ? pair"),
    ],
)
def test_an_output_becomes_json(output: Any, expected: Any) -> None:
    cleaned = clean(rollout(output)).output
    assert cleaned == expected
    assert msgspec.json.decode(msgspec.json.encode(cleaned)) == expected


def test_an_output_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {"name": "loop"}
    loop["self"] = [loop, loop]
    assert clean(rollout(loop)).output["name"] == "loop"
    msgspec.json.encode(clean(rollout(loop)))


def test_a_value_that_merely_appears_twice_is_kept_twice() -> None:
    shared = {"a": 1}
    assert clean(rollout([shared, shared])).output == [shared, shared]


def test_no_secret_is_left_anywhere() -> None:
    tool = Step(
        id="s", rollout_id="r", index=1, kind="tool", agent="a", started_at=1.0, name="fetch", error=f"401 for {KEY}",
        arguments={"headers": {"Authorization": "plain words", "Accept": "text"}, "url": f"http://x/?api_key={KEY}"},
        result=[f"Bearer {KEY}"],
    )  # fmt: skip
    cleaned = clean(
        rollout(
            {"said": f"your key is {KEY}"},
            input={"question": f"why does {KEY} fail?"},
            expected=[KEY],
            metadata={"api_key": "short"},
            error=f"Incorrect API key provided: {KEY}",
            rewards=[Reward(0.0, f"it leaked {KEY}")],
            steps=[model_step(f"use {KEY}", f"I used {KEY}", endpoint=f"http://h/{KEY}"), tool],
        )
    )
    kept = msgspec.json.encode(cleaned).decode()
    assert KEY not in kept
    assert "plain words" not in kept
    assert '"api_key":"[secret]"' in kept
    assert cleaned.input == {"question": "why does [secret] fail?"}
    assert cleaned.steps[1].arguments["headers"] == {"Authorization": "[secret]", "Accept": "text"}


def test_token_ids_go_when_the_text_they_spell_was_changed_and_stay_otherwise() -> None:
    assert clean_step(model_step()) == model_step()
    cleaned = clean_step(model_step(answer=f"it is {KEY}"))
    assert cleaned.reply is not None
    assert (cleaned.prompt_ids, cleaned.completion_ids, cleaned.logprobs) == (None, None, None)
    assert (cleaned.reply.prompt_ids, cleaned.reply.completion_ids, cleaned.reply.logprobs) == (None, None, None)
    assert cleaned.reply.text == "it is [secret]"


def test_processing_adds_the_features() -> None:
    processed = process(rollout("42", reward=1.0, steps=[model_step()]))
    assert processed.features is not None
    assert (processed.features.success, processed.features.num_model_calls) == (True, 1)


def test_the_trajectory_given_is_left_as_it_was() -> None:
    given = rollout({"said": KEY}, steps=[model_step(KEY)])
    before = msgspec.json.encode(given)
    process(given)
    assert msgspec.json.encode(given) == before


words = st.sampled_from(
    [KEY, "Bearer ", "authorization: ", " ", "I cannot help with that", "Error: no", "{}", "{", "?"]
)
strings = st.lists(words | st.text(max_size=6), max_size=4).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | strings | st.binary(max_size=4) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(strings | st.sampled_from(["password", "error", "tool_calls", "content"]), inner, max_size=3)
        | st.tuples(inner)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "refusal", "x"]), values, max_size=4)
calls = st.builds(Call, strings, strings, st.lists(objects, max_size=3), st.lists(objects, max_size=2), objects)
replies = st.builds(Reply, objects, st.sampled_from([None, "stop", "length", "content_filter"]))
steps = st.builds(
    Step, id=strings, rollout_id=strings, index=st.integers(0, 9), kind=st.sampled_from(["model", "tool"]),
    agent=strings, started_at=st.just(0.0), call=st.none() | calls, reply=st.none() | replies, name=st.none() | strings,
    arguments=values, result=values, error=st.none() | strings, status=st.sampled_from([None, 200, 429, 500]),
    retry=st.integers(0, 2), completion_ids=st.none() | st.just([1]),
)  # fmt: skip
rollouts = st.builds(
    Trajectory, id=strings, agent_id=strings, task=strings, input=strings | objects, output=values, expected=values,
    reward=st.none() | st.floats(0, 1), timestamp=st.just(0.0), metadata=objects, error=st.none() | strings,
    status=st.sampled_from(["succeeded", "failed", "timeout", "stopped"]), steps=st.lists(steps, max_size=4),
    rewards=st.lists(st.builds(Reward, st.floats(0, 1), st.none() | strings), max_size=2),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(rollouts)
def test_processing_twice_is_processing_once_and_the_result_survives_json(trajectory: Trajectory) -> None:
    once = process(trajectory)
    assert process(once) == once
    assert msgspec.json.decode(msgspec.json.encode(once), type=Trajectory) == once
