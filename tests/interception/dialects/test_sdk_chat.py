"""What we write in the chat-completions format, as the OpenAI SDK reads it."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest
from tests.interception.dialects.serving import (
    ARGUMENTS,
    CALLED,
    CUT,
    DECLINED,
    JSON,
    SAID,
    TEXT,
    THOUGHT,
    USAGE,
    answering,
)

from agentlightning.data.call import Reply

ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}]}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


class Weather(pydantic.BaseModel):
    city: str
    degrees: int


def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)


def test_text() -> None:
    with answering(SAID) as server, client(server) as sdk:
        answer = sdk.chat.completions.create(**ASK)
    assert (answer.id, answer.object, answer.created, answer.model) == ("r1", "chat.completion", 1_700_000_000, "m")
    [choice] = answer.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", TEXT)
    assert choice.finish_reason == "stop"
    usage = answer.usage
    assert usage is not None and usage.prompt_tokens_details and usage.completion_tokens_details
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (30, 12, 42)
    assert usage.prompt_tokens_details.cached_tokens == 8 and usage.completion_tokens_details.reasoning_tokens == 5


def test_tool_calls() -> None:
    with answering(CALLED) as server, client(server) as sdk:
        [choice] = sdk.chat.completions.create(**ASK, tools=TOOLS).choices
    calls: Any = choice.message.tool_calls
    assert [(call.id, call.type, call.function.name) for call in calls] == [
        ("c1", "function", "weather"),
        ("c2", "function", "weather"),
    ]
    assert calls[1].function.arguments == ARGUMENTS and choice.finish_reason == "tool_calls"


@pytest.mark.parametrize("with_usage", [False, True])
def test_a_stream_tells_usage_only_when_asked(with_usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if with_usage else {}
    with answering(SAID) as server, client(server) as sdk:
        chunks = list(sdk.chat.completions.create(**ASK, stream=True, **options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([42] if with_usage else [])
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-2:] == [None, "stop"]


@pytest.mark.parametrize("reply", [SAID, CALLED, DECLINED])
def test_the_sdks_own_assembly_of_a_stream_is_the_reply(reply: Reply) -> None:
    with (
        answering(reply) as server,
        client(server) as sdk,
        sdk.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream,
    ):
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    message = answer.choices[0].message
    assert (message.content or None, message.refusal) == (reply.message["content"], reply.message.get("refusal"))
    calls: Any = message.tool_calls or []
    assert [call.function.arguments for call in calls] == [ARGUMENTS] * len(reply.message.get("tool_calls", []))
    assert answer.choices[0].finish_reason == reply.finish_reason
    assert answer.usage is not None and answer.usage.prompt_tokens == USAGE.input_tokens
    assert "content.done" in kinds or "tool_calls.function.arguments.done" in kinds or "refusal.done" in kinds


def test_a_cut_answer_is_known_as_one() -> None:
    with answering(CUT) as server, client(server) as sdk, pytest.raises(openai.LengthFinishReasonError):
        sdk.chat.completions.parse(**ASK, response_format=Weather)


def test_structured_output_is_parsed() -> None:
    with answering(JSON) as server, client(server) as sdk:
        answer = sdk.chat.completions.parse(**ASK, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)


def test_reasoning_comes_in_its_own_field() -> None:
    with answering(THOUGHT) as server, client(server) as sdk:
        message: Any = sdk.chat.completions.create(**ASK).choices[0].message
        deltas: list[Any] = [c.choices[0].delta for c in sdk.chat.completions.create(**ASK, stream=True)]
    assert message.reasoning_content == "It is June, so…"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "It is June, so…"


def test_functions_of_the_older_form_are_answered_in_it() -> None:
    functions: Any = [{"name": "weather", "parameters": {"type": "object"}}]
    with answering(CALLED) as server, client(server) as sdk:
        [choice] = sdk.chat.completions.create(**ASK, functions=functions).choices
        chunks = list(sdk.chat.completions.create(**ASK, functions=functions, stream=True))
    assert choice.message.function_call is not None and choice.message.tool_calls is None
    assert (choice.message.function_call.name, choice.finish_reason) == ("weather", "function_call")
    pieces = [c.choices[0].delta.function_call for c in chunks if c.choices[0].delta.function_call]
    assert "".join(piece.arguments or "" for piece in pieces) == ARGUMENTS


def test_log_probabilities_and_token_ids_come_when_asked_for() -> None:
    reply = Reply(
        {"role": "assistant", "content": "Hi"}, "stop", prompt_ids=[1, 2], completion_ids=[3], logprobs=[-0.5]
    )
    with answering(reply) as server, client(server) as sdk:
        plain: Any = sdk.chat.completions.create(**ASK)
        asked: Any = sdk.chat.completions.create(**ASK, logprobs=True, extra_body={"return_token_ids": True})
    assert plain.choices[0].logprobs is None and not hasattr(plain, "prompt_token_ids")
    assert [entry.logprob for entry in asked.choices[0].logprobs.content] == [-0.5]
    assert (asked.prompt_token_ids, asked.choices[0].token_ids) == ([1, 2], [3])


def test_at_azure_the_model_is_the_deployment() -> None:
    with answering(SAID) as server:
        options: Any = {"api_version": "2024-10-21", "api_key": "k", "max_retries": 0}
        with openai.AzureOpenAI(azure_endpoint=server.url, azure_deployment="mine", **options) as sdk:
            answer = sdk.chat.completions.create(**ASK)
    assert answer.model == "mine" and server.requests[0].path == "/openai/deployments/mine/chat/completions"
