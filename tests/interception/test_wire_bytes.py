"""Outside a rollout nobody can tell we are there, not even by the bytes on the wire."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers import chunks_of, completion_of

PROGRAM = Path(__file__).with_name("wire_calls.py")


class RawServer:
    """Keeps every request byte for byte; answers each on a connection of its own."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    @contextmanager
    def running(self) -> Iterator[RawServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = _read_request(connection)
                if request:
                    self.requests.append(request)
                    connection.sendall(_answer(request))


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65536)):
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    missing = int(lengths[0]) - len(body) if lengths else 0
    while missing > 0:
        piece = connection.recv(missing)
        data, missing = data + piece, missing - len(piece)
    return data


def _answer(request: bytes) -> bytes:
    completion = completion_of("one two three", {"model": "m"}) | {"created": 1}
    kind, body = "application/json", json.dumps(completion).encode()
    if b'"stream"' in request:
        told = chunks_of(completion, include_usage=b"include_usage" in request)
        kind, body = "text/event-stream", b"".join(f"data: {json.dumps(e)}\n\n".encode() for e in told)
        body += b"data: [DONE]\n\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.fixture(scope="module")
def seen() -> dict[str, tuple[list[bytes], list[Any]]]:
    """Mode → the raw requests of the program, and what it saw come back."""
    results = {}
    with RawServer().running() as server:
        for mode in ("bare", "installed", "inside"):
            program = [sys.executable, str(PROGRAM), server.url, mode]
            done = subprocess.run(program, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            results[mode] = (server.requests, json.loads(done.stdout))
            server.requests = []
    return results


def test_outside_a_rollout_every_byte_is_as_without_us(seen: dict[str, tuple[list[bytes], list[Any]]]) -> None:
    (bare, came_back), (installed, came_back_installed) = seen["bare"], seen["installed"]
    assert len(bare) == 19 and all(request.startswith((b"POST /v1/", b"GET /v1/")) for request in bare)
    assert installed == bare
    assert came_back_installed == came_back


def test_inside_a_rollout_plain_calls_keep_every_byte(seen: dict[str, tuple[list[bytes], list[Any]]]) -> None:
    (bare, came_back), (inside, came_back_inside) = seen["bare"], seen["inside"]
    assert inside == [request for request in bare if b'"stream"' not in request]
    assert came_back_inside == came_back[: len(came_back_inside)]
