"""A real model server to test against: speaks chat completions, does as it is told, and keeps every byte it was sent.

    with FakeOpenAI("blue") as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="sk-test")
        server.next_status(429, headers={"Retry-After": "0"})      # queued: used up by the next request
        server.reply(lambda body: body["messages"][-1]["content"])  # standing: every request that finds no queue
        ...
        assert server.requests[-1].json["model"] == "m"

An answer is text, a message (`{"content": …, "tool_calls": […]}`), a whole completion (has `choices`), a Starlette
response, or a function from the request's JSON body to one of these. A function that raises makes the server answer 400
and the `with` block raise at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

Answer = str | dict[str, Any] | list[Any] | Response | Callable[[Any], Any]
_PIECES = 3


@dataclass(frozen=True)
class Seen:
    """A request as it arrived. `json` is None when the body is not JSON; header names are lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    json: Any


@dataclass(frozen=True)
class _Act:
    """What one queued request gets: a wait, then an answer or a closed connection."""

    answer: Answer | None = None
    wait_seconds: float = 0
    drop: str = ""


class FakeOpenAI:
    """An OpenAI-compatible server on a free port of 127.0.0.1, in its own thread, for the length of a `with` block."""

    def __init__(self, answer: Answer = "ok", *, gzip: bool = False, chunk_delay_seconds: float = 0) -> None:
        self.requests: list[Seen] = []
        self.gzip = gzip
        self.chunk_delay_seconds = chunk_delay_seconds
        self.max_in_flight = 0
        """The most requests that were ever being answered at once."""
        self._in_flight = 0
        self._peers: set[Any] = set()
        self._answer = answer
        self._queue: deque[_Act] = deque()
        self._routes: dict[str, Answer] = {}
        self._failures: list[BaseException] = []
        self._server = _Server(self)

    def __enter__(self) -> FakeOpenAI:
        self._server.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._server.stop()
        if self._failures and error is None:
            raise self._failures[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def base_url(self) -> str:
        """What SDKs call base_url: it ends in /v1."""
        return f"{self.url}/v1"

    @property
    def in_flight(self) -> int:
        """Requests that are being answered just now."""
        return self._in_flight

    @property
    def num_connections(self) -> int:
        """How many connections the requests so far came over."""
        return len(self._peers)

    def reply(self, answer: Answer) -> None:
        """From now on, every chat request gets this."""
        self._answer = answer

    def route(self, path: str, answer: Answer) -> None:
        """Answer another path (exact, such as `/v1/responses`): text, JSON, a response, or a function of the body.

        A list is sent as server-sent events: dicts as `data:` lines (named by their `type`), strings as they are.
        """
        self._routes[path] = answer

    def next_reply(self, answer: Answer, *, times: int = 1) -> None:
        self._queue.extend([_Act(answer)] * times)

    def next_status(
        self, status: int, *, headers: Mapping[str, str] | None = None, body: Any = None, times: int = 1
    ) -> None:
        """Refuse the next request(s). The body is text, or JSON; by default an error in OpenAI's shape."""
        if body is None:
            body = {"error": {"message": f"scripted {status}", "type": "scripted", "code": None}}
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        kind = "text/plain" if isinstance(body, str | bytes) else "application/json"
        given = dict(headers or {})
        self.next_reply(lambda _: Response(content, status, given, kind), times=times)

    def garbage(self, text: str = "<html>this is not a model</html>", *, times: int = 1) -> None:
        """Answer 200 with something that is not JSON."""
        self.next_status(200, body=text, times=times)

    def hang(self, seconds: float, *, times: int = 1) -> None:
        """Wait before answering as usual; leaving the `with` block ends the wait."""
        self._queue.extend([_Act(wait_seconds=seconds)] * times)

    def drop(self, *, midway: bool = False, times: int = 1) -> None:
        """Close the connection without a word, or (midway) after the status line and half of a body."""
        self._queue.extend([_Act(drop="midway" if midway else "at once")] * times)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.requests.append(seen := await _see(request))
        self._peers.add(scope["client"])
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            act = self._queue.popleft() if self._queue else _Act()
            await self._server.wait(act.wait_seconds)
            if act.drop:
                await _drop(send, midway=act.drop == "midway")
            else:
                response = await asyncio.to_thread(self._respond, seen, act.answer)
                await (_gzipped(response) if self.gzip else response)(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _respond(self, seen: Seen, queued: Answer | None) -> Response:
        try:
            if queued is not None:
                return self._chat(seen, queued)
            if seen.path in self._routes:
                return self._plain(_resolve(self._routes[seen.path], seen.json))
            if seen.path.endswith("/chat/completions"):
                return self._chat(seen, self._answer)
            return _other_path(seen)
        except Exception as error:
            self._failures.append(error)
            return _error(400, f"the test's answer function raised {error!r}")

    def _chat(self, seen: Seen, answer: Answer) -> Response:
        body = seen.json if isinstance(seen.json, dict) else {}
        value = _resolve(answer, seen.json)
        if isinstance(value, Response | list):
            return self._plain(value)
        completion = value if isinstance(value, dict) and "choices" in value else completion_of(value, body)
        if not body.get("stream"):
            return JSONResponse(completion)
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return self._events([*chunks_of(completion, include_usage=include_usage), "data: [DONE]\n\n"])

    def _plain(self, value: Any) -> Response:
        if isinstance(value, Response):
            return value
        if isinstance(value, list):
            return self._events(value)
        return Response(value, media_type="text/plain") if isinstance(value, str) else JSONResponse(value)

    def _events(self, events: Iterable[Any]) -> Response:
        async def send() -> AsyncIterator[bytes]:
            for number, event in enumerate(events):
                if number:
                    await self._server.wait(self.chunk_delay_seconds)
                yield _event(event)

        return StreamingResponse(send(), media_type="text/event-stream")


def completion_of(answer: str | dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion around a text or message. One token is one white-space separated word."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    message |= {"content": answer} if isinstance(answer, str) else answer
    calls = message.get("tool_calls")
    prompt = sum(len(str(entry.get("content") or "").split()) for entry in body.get("messages") or [])
    answered = len(str(message["content"] or "").split()) + len(calls or [])
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model") or "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered},
    }


def chunks_of(completion: dict[str, Any], *, include_usage: bool) -> Iterator[dict[str, Any]]:
    """The same completion as the chunks of a stream: text and tool arguments come in several pieces."""
    frame = {**completion, "object": "chat.completion.chunk"}
    usage = frame.pop("usage", None)
    extra = {"usage": None} if include_usage else {}
    for choice in completion["choices"]:
        deltas = [*_deltas(choice["message"]), {}]
        for number, delta in enumerate(deltas):
            reason = choice["finish_reason"] if number == len(deltas) - 1 else None
            part = {"index": choice["index"], "delta": delta, "finish_reason": reason}
            yield {**frame, "choices": [part], **extra}
    if include_usage:
        yield {**frame, "choices": [], "usage": usage}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls") or []
    yield {"role": "assistant", "content": None if calls and not message.get("content") else ""}
    for piece in _pieces(message.get("content") or ""):
        yield {"content": piece}
    for index, call in enumerate(calls):
        function = call["function"]
        head = {"index": index, "id": call["id"], "type": "function"}
        yield {"tool_calls": [head | {"function": {"name": function["name"], "arguments": ""}}]}
        for piece in _pieces(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // _PIECES))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _event(event: Any) -> bytes:
    if isinstance(event, str):
        return event.encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _resolve(answer: Any, body: Any) -> Any:
    return answer(body) if callable(answer) and not isinstance(answer, Response) else answer


def _other_path(seen: Seen) -> Response:
    if seen.path.endswith("/embeddings"):
        given = seen.json["input"] if isinstance(seen.json["input"], list) else [seen.json["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [float(len(text))]} for i, text in enumerate(given)]
        usage = {"prompt_tokens": len(given), "total_tokens": len(given)}
        return JSONResponse({"object": "list", "data": data, "model": seen.json.get("model"), "usage": usage})
    if seen.path.endswith("/models"):
        return JSONResponse({"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "tests"}]})
    return _error(404, f"no such path: {seen.method} {seen.path}")


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": None}}, status)


async def _see(request: Request) -> Seen:
    body = await request.body()
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    return Seen(request.method, request.url.path, request.url.query, dict(request.headers), body, parsed)


def _gzipped(response: Response) -> Response:
    async def squeeze() -> AsyncIterator[bytes]:
        press = zlib.compressobj(wbits=31)
        if isinstance(response, StreamingResponse):
            async for part in response.body_iterator:
                yield press.compress(bytes(part)) + press.flush(zlib.Z_SYNC_FLUSH)
        else:
            yield press.compress(bytes(response.body))
        yield press.flush()

    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return StreamingResponse(squeeze(), response.status_code, headers | {"content-encoding": "gzip"})


async def _drop(send: Send, *, midway: bool) -> None:
    if midway:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b'{"id": ', "more_body": True})
    send.__self__.transport.close() if midway else send.__self__.transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0.005)  # uvicorn must notice the loss before we return, or it complains of a missing response


class _Server(uvicorn.Server):
    """Uvicorn on a socket of ours, started and stopped without its tenth-of-a-second polling."""

    def __init__(self, app: FakeOpenAI) -> None:
        super().__init__(
            uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, proxy_headers=False)
        )
        self._thread = threading.Thread(target=self._serve_thread, name="fake-openai", daemon=True)
        self._ready = threading.Event()
        self.port = 0

    def start(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fake model server did not start within 10 seconds")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        if self._thread.is_alive():
            raise RuntimeError("the fake model server did not stop: is an answer function blocked?")

    async def wait(self, seconds: float) -> None:
        """Sleep, but no longer than the server lives."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)

    def _serve_thread(self) -> None:
        asyncio.run(self.serve([self._socket]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        deadline = self._loop.time() + 2
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:
            if self._loop.time() > deadline:
                for connection in list(self.server_state.connections):
                    connection.transport.abort()  # type: ignore[union-attr]
            await asyncio.sleep(0.001)
        self._socket.close()
