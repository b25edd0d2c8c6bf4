"""What we write in Ollama's formats, as Ollama's SDK reads it, and what it sends, as we read that."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import ollama
import pytest
from tests.interception.dialects.serving import ARGUMENTS, CALLED, JSON, SAID, TEXT, THOUGHT, answering
from tests.interception.rollout import rollout

from agentlightning.data.call import Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
ASK: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Weather?", "images": [PNG]}]


def weather(city: str, days: list[int]) -> str:
    """The weather of some days.

    Args:
      city: its name
      days: from today
    """
    raise NotImplementedError


@pytest.mark.parametrize("reply", [SAID, THOUGHT])
def test_text_and_thinking_whole_and_streamed(reply: Reply) -> None:
    with answering(reply) as server, rollout() as recorder, ollama.Client(host=server.url) as client:
        whole = client.chat("m", ASK, think=True, options={"temperature": 0.2})
        parts = list(client.chat("m", ASK, stream=True))
    assert (whole.message.content, whole.message.thinking) == (reply.text, reply.message.get("reasoning_content"))
    assert "".join(part.message.content or "" for part in parts) == reply.text
    assert (whole.done_reason, whole.prompt_eval_count, whole.eval_count) == ("stop", 30, 12)
    steps = recorder.steps()
    assert [step.reply.message if step.reply else step.error for step in steps] == [reply.message] * 2
    assert steps[0].call is not None and steps[0].call.params == {"temperature": 0.2, "think": True}


def test_tool_calls_and_their_way_back() -> None:
    with answering(CALLED) as server, rollout() as recorder, ollama.Client(host=server.url) as client:
        answer = client.chat("m", ASK, tools=[weather])
        [streamed] = [part for part in client.chat("m", ASK, stream=True) if part.message.tool_calls]
        result = {"role": "tool", "tool_name": "weather", "content": "21"}
        client.chat("m", [*ASK, answer.message, result], tools=[weather])
    calls = answer.message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [("weather", json.loads(ARGUMENTS))] * 2
    assert streamed.message.tool_calls == calls
    last = recorder.steps()[-1].call
    assert last is not None and [message["role"] for message in last.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    told = [call["function"] for call in last.messages[2]["tool_calls"]]
    assert told == [{"name": "weather", "arguments": ARGUMENTS}] * 2
    assert last.tools[0]["function"]["description"] == "The weather of some days."


def test_an_image_is_passed_and_read_as_a_part() -> None:
    with answering(SAID) as server, rollout() as recorder, ollama.Client(host=server.url) as client:
        client.chat("m", ASK)
    [step] = recorder.steps()
    assert server.requests[0].json["messages"][1]["images"] == [base64.b64encode(PNG).decode()]
    assert step.call is not None
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    assert step.call.messages[1]["content"] == [{"type": "text", "text": "Weather?"}, image]


def test_structured_output_is_given_as_asked() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    with answering(JSON) as server, rollout() as recorder, ollama.Client(host=server.url) as client:
        answer = client.chat("m", ASK, format=schema)
    assert json.loads(answer.message.content or "")["city"] == "Paris"
    [step] = recorder.steps()
    assert step.call is not None and step.call.params["format"] == schema


def test_generate_reads_alike_async_and_streamed() -> None:
    async def generated(host: str) -> str:
        async with ollama.AsyncClient(host=host) as client:
            stream = await client.generate("m", "Weather?", system="Be kind.", stream=True)
            return "".join([part.response async for part in stream])

    with answering(SAID) as server, rollout() as recorder:
        assert asyncio.run(generated(server.url)) == TEXT
    [step] = recorder.steps()
    assert step.call is not None and [message["content"] for message in step.call.messages] == ["Be kind.", "Weather?"]
    assert step.reply is not None and step.reply.text == TEXT and step.reply.usage is not None


def test_a_model_that_is_not_there_is_the_sdks_error_and_the_steps() -> None:
    with answering(SAID) as server, rollout() as recorder, ollama.Client(host=server.url) as client:
        server.next_status(404, body={"error": "model 'm' not found"})
        with pytest.raises(ollama.ResponseError, match="not found"):
            client.chat("m", ASK)
    [step] = recorder.steps()
    assert (step.status, step.error) == (404, "HTTP 404: model 'm' not found")
