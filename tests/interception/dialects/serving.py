"""A server that answers in any dialect with a reply of ours, for SDKs to judge what we write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.servers import FakeOpenAI

from agentlightning.data.call import Reply, Usage
from agentlightning.interception.dialects import DIALECTS, dialect_of

USAGE = Usage(input_tokens=30, output_tokens=12, cached_tokens=8, reasoning_tokens=5)
ARGUMENTS = '{"city":"Paris","days":[1,2]}'
WEATHER = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
TEXT = "Sunny, and then — perhaps — a little rain in the evening.\nTake a coat."
SAID = Reply({"role": "assistant", "content": TEXT}, "stop", USAGE)
CALLED = Reply(
    {"role": "assistant", "content": "Let me look.", "tool_calls": [WEATHER, WEATHER | {"id": "c2"}]},
    "tool_calls",
    USAGE,
)
CUT = Reply({"role": "assistant", "content": "Sunny, and"}, "length", USAGE)
DECLINED = Reply({"role": "assistant", "content": None, "refusal": "I would rather not."}, "stop", USAGE)
THOUGHT = Reply({"role": "assistant", "content": "Sunny.", "reasoning_content": "It is June, so…"}, "stop", USAGE)
JSON = Reply({"role": "assistant", "content": '{"city": "Paris", "degrees": 21}'}, "stop", USAGE)


@contextmanager
def answering(reply: Reply) -> Iterator[FakeOpenAI]:
    """A server whose every model endpoint gives `reply`."""
    with FakeOpenAI() as server:
        for prefix in ("", "/v1", "/openai/deployments/mine"):
            for dialect in DIALECTS:
                path = (prefix + dialect.path_suffix).replace("/v1/v1", "/v1")
                server.route(path, _answer(path, reply))
        yield server


def _answer(path: str, reply: Reply) -> Any:
    def answer(body: dict[str, Any]) -> Response:
        dialect = dialect_of(path)
        assert dialect is not None
        call = dialect.call(body, "engine", path)
        if not call.stream:
            return JSONResponse(dialect.respond(reply, call, id="r1", created=1_700_000_000.0))
        usage = dialect.wants_usage(body)
        events = dialect.respond_stream(reply, call, id="r1", created=1_700_000_000.0, with_usage=usage)
        kind = "application/x-ndjson" if dialect.stream_type == "ndjson" else "text/event-stream"
        return StreamingResponse(events, media_type=kind)

    return answer
