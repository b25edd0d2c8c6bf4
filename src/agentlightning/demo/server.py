"""The simulated model behind an OpenAI-compatible endpoint on the loopback address.

It accepts any key and any model name, and says in `/v1/models` and in every answer's fingerprint that it is simulated.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import click
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from agentlightning.demo import wire
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Answer, Request
from agentlightning.errors import ConfigError, ModelError

START_SECONDS = 10


Speaker = Callable[[Request], Answer]
"""A simulated model: a request's answer, always the same one."""


def make_app(latency_seconds: float = 0.0, speaker: Speaker = answer) -> Starlette:
    """The endpoint as an ASGI application; every answer waits `latency_seconds` first."""

    async def completions(http: HttpRequest) -> Response:
        try:
            body = wire.parse_body(await http.body())
        except ClientDisconnect:  # whoever asked is gone, and nobody hears the answer
            return Response(status_code=499)
        if latency_seconds:
            await asyncio.sleep(latency_seconds)
        request = wire.to_request(body)
        given = speaker(request)
        if not body.get("stream"):
            return _json(wire.completion(body, request, given))
        return StreamingResponse(_events(wire.chunks(body, request, given)), media_type="text/event-stream")

    async def models(_: HttpRequest) -> Response:
        return _json({"object": "list", "data": [wire.model_card("simulated")]})

    async def model(http: HttpRequest) -> Response:
        return _json(wire.model_card(http.path_params["name"]))

    return Starlette(
        routes=[
            Route("/v1/chat/completions", completions, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
        ],
        exception_handlers={wire.BadRequest: _refuse, HTTPException: _refuse},
    )


class SimulatedServer:
    """Serves on 127.0.0.1 from a thread of its own for the length of a `with` block.

    `port` 0 takes a free one; `base_url` is what OPENAI_BASE_URL wants. Leaving the block closes every connection.
    """

    def __init__(self, port: int = 0, latency_seconds: float = 0.0, speaker: Speaker = answer) -> None:
        self._port = port
        self._config = uvicorn.Config(
            make_app(latency_seconds, speaker),
            lifespan="off",
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`; a ModelError before the server was started."""
        if self._socket is None:
            raise ModelError("the simulated server is not running. Use it as `with SimulatedServer() as server:`.")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def __enter__(self) -> SimulatedServer:
        self._socket = _bind(self._port)
        self._server = server = uvicorn.Server(self._config)
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._socket]}, name="simulated-model", daemon=True
        )
        self._thread.start()
        for _ in range(START_SECONDS * 200):
            if server.started:
                return self
            self._thread.join(0.005)
        self.__exit__()
        raise ModelError(f"the simulated server did not start within {START_SECONDS} seconds.")

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None and self._socket is not None:
            self._server.should_exit = True
            self._thread.join()
            self._socket.close()
        self._server = self._thread = self._socket = None


def _bind(port: int) -> socket.socket:
    # With the protocol named, asyncio switches Nagle's algorithm off; without, every answer waits 40 ms for an ACK.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"port {port} on 127.0.0.1 cannot be used ({error.strerror}). Take another, or 0.") from error
    bound.listen(128)
    return bound


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _events(chunks: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
    yield b"data: [DONE]\n\n"


async def _refuse(http: HttpRequest, error: Exception) -> Response:
    if isinstance(error, wire.BadRequest):
        return _json(wire.error_body(str(error), param=error.param), 400)
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = (
        f"{http.method} {http.url.path} is not served here; the simulated model answers POST /v1/chat/completions."
    )
    return _json(wire.error_body(message, code="unknown_url"), status)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free port.")
@click.option(
    "--latency-seconds", type=click.FloatRange(0), default=0.0, show_default=True, help="How long every answer takes."
)
def main(port: int, latency_seconds: float) -> None:
    """Serve the simulated model on 127.0.0.1 until interrupted."""
    with SimulatedServer(port, latency_seconds) as server:
        click.echo(f"Simulated model (no real LLM) at {server.base_url}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("stopped")


if __name__ == "__main__":
    main()
