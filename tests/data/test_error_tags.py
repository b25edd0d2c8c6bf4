"""Each kind of failure gets its tag, with the step that shows it; what is no failure gets none."""

from __future__ import annotations

from typing import Any

import pytest

from agentlightning.data.call import Call, Reply
from agentlightning.data.error_tags import EVIDENCE_CHARACTERS, error_tags
from agentlightning.data.trajectory import Step, Trajectory

TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
JSON = {"response_format": {"type": "json_object"}}


def asked(*calls: tuple[str, str]) -> dict[str, Any]:
    functions = [
        {"id": f"c{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": functions}


def model(
    index: int,
    reply: str | dict[str, Any] | None = "fine",
    *,
    tools: list[Any] = TOOLS,
    params: dict[str, Any] | None = None,
    results: tuple[str, ...] = (),
    finish: str = "stop",
    **fields: Any,
) -> Step:
    messages = [{"role": "user", "content": "go"}, *({"role": "tool", "content": text} for text in results)]
    message = {"role": "assistant", "content": reply} if isinstance(reply, str) else reply
    return Step(
        id=f"s{index}", rollout_id="r", index=index, kind="model", agent="a", started_at=0.0,
        call=Call("a", "m", messages, tools, params or {}), reply=Reply(message, finish) if message else None, **fields,
    )  # fmt: skip


def tool(index: int, arguments: Any = None, error: str | None = None) -> Step:
    return Step(
        id=f"s{index}", rollout_id="r", index=index, kind="tool", agent="a", started_at=0.0,
        name="search", arguments=arguments, error=error,
    )  # fmt: skip


def tags(*steps: Step, output: Any = "fine", **fields: Any) -> dict[str, int | None]:
    trajectory = Trajectory(
        id="r", agent_id="a", task="t", input="go", timestamp=0.0, output=output, steps=list(steps), **fields
    )
    return {tag.name: tag.step for tag in error_tags(trajectory)}


def test_a_good_rollout_has_no_tags() -> None:
    assert tags(model(0, asked(("search", "{}"))), tool(1), model(2, results=("12 errors were found",))) == {}


def test_how_the_rollout_ended_is_shown_at_its_last_step_or_the_one_that_failed() -> None:
    assert tags(model(0), model(1), status="timeout", output=None) == {"timeout": 1}
    assert tags(model(0), model(1), status="failed", error="KeyError: 'x'", output=None) == {"exception": 1}
    assert tags(tool(0, error="boom"), model(1), status="failed", output=None) == {"exception": 0, "tool_error": 0}


def test_an_agent_that_called_no_model_is_told_unless_we_stopped_it() -> None:
    assert tags() == {"no_model_call": None}
    assert tags(status="stopped", output=None) == {}


def test_a_call_that_failed_for_good_is_a_model_error() -> None:
    assert tags(model(0, None, error="connection reset"), model(1)) == {"model_error": 0}
    assert tags(model(0, None, status=500)) == {"model_error": 0}
    assert tags(model(0, None, status=429, error="slow down")) == {"rate_limited": 0}


def test_a_send_that_was_repeated_is_no_error_of_its_own() -> None:
    failing = [model(0, None, status=500), model(1, None, status=429, retry=1)]
    assert tags(*failing, model(2, retry=2)) == {}
    assert tags(*failing) == {"rate_limited": 1}


def test_an_answer_cut_at_the_limit_is_a_truncation() -> None:
    assert tags(model(0), model(1, finish="length")) == {"truncation": 1}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I cannot help with this request.",
        "As an AI language model, I am unable to provide medical advice.",
        "Unfortunately I won’t be able to. I can’t answer that.",
    ],
)
def test_a_refusal_is_seen_in_the_output(text: str) -> None:
    assert tags(model(0), model(1), output=text) == {"refusal": 1}


@pytest.mark.parametrize(
    "text", ["I'm sorry to hear that! Let me help.", "I can't help but smile.", "You cannot provide both."]
)
def test_polite_words_are_no_refusal(text: str) -> None:  # fmt: skip
    assert tags(model(0), output=text) == {}


def test_a_refusal_is_seen_in_the_providers_own_fields() -> None:
    assert tags(model(0, {"role": "assistant", "refusal": "no"}), model(1)) == {"refusal": 0}
    assert tags(model(0, finish="content_filter"), model(1)) == {"refusal": 0}


def test_a_tool_that_was_not_offered_is_unknown() -> None:
    assert tags(model(0, asked(("search", "{}"), ("delete_all", "{}")))) == {"unknown_tool": 0}
    assert tags(model(0, asked(("search", "{}")), tools=[{"name": "search"}])) == {}


@pytest.mark.parametrize(
    "result",
    ["Error: no such city", "ValueError: bad date", "Traceback (most recent call last):\n…", '{"error": "timeout"}'],
)
def test_a_failed_tool_is_seen_in_the_message_that_brings_its_result(result: str) -> None:
    assert tags(model(0, asked(("search", "{}"))), model(1, results=(result,))) == {"tool_error": 1}


@pytest.mark.parametrize("result", ['{"error": null, "hits": 3}', "No errors.", "The error rate is 2 %."])
def test_a_result_that_speaks_of_errors_is_none(result: str) -> None:  # fmt: skip
    assert tags(model(0, results=(result,))) == {}


def test_the_same_tool_call_three_times_is_a_loop() -> None:
    again = asked(("search", '{"q": "x", "n": 1}'))
    other_spelling = asked(("search", '{"n":1,"q":"x"}'))
    assert tags(model(0, again), model(1, other_spelling)) == {}
    assert tags(model(0, again), model(1, other_spelling), model(2, again)) == {"loop": 2}
    assert tags(model(0), *(tool(n, {"q": "x"}) for n in (1, 2, 3))) == {"loop": 3}
    assert tags(model(0), *(tool(n, {"q": n}) for n in (1, 2, 3))) == {}


def test_an_answer_that_should_be_json_and_is_not_is_malformed() -> None:
    assert tags(model(0, '{"a": 1}', params=JSON), model(1, "a is 1", params=JSON)) == {"malformed_output": 1}
    assert tags(model(0, asked(("search", "{}")), params=JSON)) == {}
    responses = {"text": {"format": {"type": "json_schema"}}}
    assert tags(model(0, "```json\n{}\n```", params=responses)) == {"malformed_output": 0}


def test_an_output_that_should_be_structured_and_is_not_is_malformed() -> None:
    assert tags(model(0), output="Ada", expected={"name": "Ada"}) == {"malformed_output": 0}
    assert tags(model(0), output='{"name": "Ada"}', expected={"name": "Ada"}) == {}
    assert tags(model(0), output={"name": "Ada"}, expected={"name": "Ada"}) == {}


@pytest.mark.parametrize("output", [None, "", "  \n", {}, []])
def test_a_rollout_that_returned_nothing_has_an_empty_output(output: Any) -> None:
    assert tags(model(0), output=output) == {"empty_output": 0}


@pytest.mark.parametrize("output", [0, False, "0", [0]])
def test_zero_is_something(output: Any) -> None:
    assert tags(model(0), output=output) == {}


def test_each_tag_comes_once_with_its_first_step_and_short_evidence() -> None:
    steps = [model(0), tool(1, error="x" * 999), tool(2, error="y")]
    [tag] = error_tags(
        Trajectory(id="r", agent_id="a", task="t", input="go", timestamp=0.0, output="fine", steps=steps)
    )
    assert (tag.name, tag.step, tag.evidence) == ("tool_error", 1, "x" * EVIDENCE_CHARACTERS)
