"""A server in front of moto that can refuse, and that also speaks what obstore's Google client says.

Google's XML API is S3's but for a few headers: create-if-absent is `x-goog-if-generation-match: 0`. So the real client
of obstore for Google Cloud Storage runs against it, though not the real service's authentication, limits, consistency.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_NOT_PASSED_ON = ("host", "connection", "authorization", "accept-encoding", "x-goog-if-generation-match")

_SOMEBODY = "AWS4-HMAC-SHA256 Credential=testing/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto checks no signature, but hides some objects from those who give none."""


class Proxy:
    """`refuse(status, code, message)` answers everything so from then on; `allow()` ends that."""

    def __init__(self, target: str) -> None:
        self.refusal: tuple[int, bytes] | None = None
        self.num_refused = 0
        self._target = target
        self._client = httpx.Client(timeout=60)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()

    def refuse(self, status: int, code: str, message: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        self.refusal = status, body.encode()

    def allow(self) -> None:
        self.refusal = None

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()
        self._client.close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        if self.refusal:
            self.num_refused += 1
            return httpx.Response(self.refusal[0], content=self.refusal[1], headers={"content-type": "application/xml"})
        passed = {name: value for name, value in headers.items() if name.lower() not in _NOT_PASSED_ON}
        passed["authorization"] = _SOMEBODY
        if headers.get("x-goog-if-generation-match") == "0":
            passed["if-none-match"] = "*"
        return self._client.request(method, self._target + path, headers=passed, content=body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = proxy.answer(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "content-encoding"):
                        self.send_header(name, value)
                is_head = self.command == "HEAD"
                length = answer.headers.get("content-length", "0") if is_head else str(len(answer.content))
                self.send_header("content-length", length)
                self.end_headers()
                if not is_head:
                    self.wfile.write(answer.content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def proxy(target: str) -> Generator[Proxy]:
    """A proxy for the length of the block."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.close()
