"""What recording and steering add to a model call, in CPU time: of the agent's thread, and of the whole process.

    python benchmarks/interception.py [--turns 100] [--peers PYTHON] [--peer PYTHON]

An openai client in each interpreter calls one server (`interception_worker.py`). All ways of watching take turns, call
by call, so that a busy machine slows all of them alike; what a way adds is counted from the bare calls of the same
process (for agentlightning 0.3.0, which cannot be switched off again, of another process of the same interpreter).
Told is the low decile: what a call costs when little disturbs it.

`--peers` is an interpreter that has openinference-instrumentation-openai, opentelemetry-instrumentation-genai-openai
and opentelemetry-sdk, `--peer` one that has agentlightning 0.3.0 (`pip install agentlightning==0.3.0 openai==2.54.0`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from interception_worker import MESSAGES, policy

from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.seam import begin

NUM_CHUNKS = 200
ORDERS = {"call": 12, "stream": 1}
"""What is measured, and how many of it each way does in a turn."""
HISTORY: Any = [
    {"role": role, "content": f"Turn {turn}: " + "the parcel left our hands and nobody has seen it since. " * 9}
    for turn in range(29)
    for role in ("assistant", "user")
]
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "On its way. " * 20}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 300, "completion_tokens": 60, "total_tokens": 360},
}
NAMES = {
    "recorded": "recorded (goals ≤ 60, ≤ 5)",
    "steered": "recorded and steered (goal ≤ 120)",
    "loaded": "a loaded optimised agent: steered",
    "genai": "official GenAI instrumentation",
    "openinference": "OpenInference",
    "agentlightning-0.3": "agentlightning 0.3.0's tracer",
}


def serve(ready: Connection) -> None:
    """A model that has its bytes ready, and answers at once on connections that are kept alive."""
    plain, streamed = _plain(), _streamed()

    def converse(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while body := _read(connection):
                connection.sendall(streamed if b'"stream":true' in body else plain)

    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            threading.Thread(target=converse, args=(connection,), daemon=True).start()


def _read(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65536)):
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return body


def _plain() -> bytes:
    body = json.dumps(COMPLETION).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _streamed() -> bytes:
    """One HTTP chunk per event, as model servers send them. The usage event always comes, so all clients read alike."""
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]] * NUM_CHUNKS + [[]]
    events = [frame | {"choices": choice, "usage": None if choice else COMPLETION["usage"]} for choice in choices]
    pieces = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Worker:
    """A process in one interpreter, and what its ways of watching took so far, in microseconds."""

    def __init__(self, python: str, ways: list[str], process: subprocess.Popen[str], errors: TextIO) -> None:
        self.python, self.ways = python, ways
        self._process, self._errors = process, errors
        self._taken: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def take_turn(self) -> None:
        for kind, count in ORDERS.items():
            for way, taken in self._ask(f"{kind} {count}").items():
                self._taken[way, kind] += taken

    def took(self, way: str, kind: str) -> tuple[float, float]:
        """Of the agent's thread, and of the whole process."""
        mine, whole = zip(*self._taken[way, kind], strict=True)
        return _low(list(mine)), _low(list(whole))

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        while (line := self._process.stdout.readline()) and not line.startswith("measured "):
            pass  # some print what they like
        if not line:
            self._errors.seek(0)
            raise SystemExit(f"{self.python} could not do {order!r}:\n{self._errors.read()[-2000:]}")
        return json.loads(line.removeprefix("measured "))


def _low(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=10)[0]


@contextmanager
def started(python: str, ways: list[str], port: int) -> Iterator[Worker]:
    script = Path(__file__).with_name("interception_worker.py").resolve()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [str(Path(python).absolute()), str(script), str(port), *ways],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,  # some leave a log where they run
            env=None if python == sys.executable else {k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        try:
            yield Worker(python, ways, process, errors)
        finally:
            process.kill()
            process.communicate()


def table(workers: list[Worker]) -> Iterator[str]:
    """Lines of Markdown: what each way adds to the bare calls of its own interpreter."""
    bare = {worker.python: worker for worker in workers if "bare" in worker.ways}
    yield "| added, µs of CPU | a call: agent's thread | whole process | a chunk: agent's thread | whole process |"
    yield "|---|---|---|---|---|"
    for worker in workers:
        for way in worker.ways:
            if way != "bare":
                cells = [cell for kind in ORDERS for cell in _added(worker, bare[worker.python], way, kind)]
                yield f"| {NAMES[way]} | {' | '.join(cells)} |"
    yield ""
    for python, worker in bare.items():
        call, stream = (worker.took("bare", kind)[0] for kind in ORDERS)
        yield f"bare, {python}: {call:.0f} a call, {stream / NUM_CHUNKS:.1f} a chunk"


def _added(worker: Worker, bare: Worker, way: str, kind: str) -> list[str]:
    parts = NUM_CHUNKS if kind == "stream" else 1
    pairs = zip(worker.took(way, kind), bare.took("bare", kind), strict=True)
    return [f"{(now - before) / parts:.{1 if parts > 1 else 0}f}" for now, before in pairs]


def alone(num_turns: int) -> Iterator[str]:
    """What is done before a request leaves, by itself and so with warm caches: for short and for long requests."""
    for size, history in (("", []), (" with a history of 58 messages", HISTORY)):
        content = json.dumps({"messages": [*MESSAGES, *history], "model": "m"}, separators=(",", ":")).encode()
        took = [_low(_begun(content, steered_by, num_turns)) for steered_by in (None, policy())]
        yield f"the seam alone, {len(content):,} bytes{size}: {took[0]:.0f} recorded, {took[1]:.0f} steered"


def _begun(content: bytes, steered_by: Any, num_turns: int) -> list[float]:
    taken: list[float] = []
    for _ in range(10 * num_turns):
        start = time.thread_time_ns()
        with entered(Scope("support", recorder=Recorder(), policy=steered_by)):
            begin("POST", "/v1/chat/completions", "http://127.0.0.1/v1/chat/completions", {}, content)
        taken.append((time.thread_time_ns() - start) / 1000)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100, help=f"in each, every way does this: {ORDERS}")
    parser.add_argument("--peers", help="an interpreter with OpenInference and the official GenAI instrumentation")
    parser.add_argument("--peer", help="an interpreter with agentlightning 0.3.0")
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port: Any = ours.recv()
    parts = [(sys.executable, ["bare", "recorded", "steered", "loaded"])]
    if given.peers:
        parts.append((given.peers, ["bare", "genai", "openinference"]))
    if given.peer:
        parts += [(given.peer, ["bare"]), (given.peer, ["agentlightning-0.3"])]
    with ExitStack() as stack:
        workers = [stack.enter_context(started(python, ways, port)) for python, ways in parts]
        for _ in range(given.turns):
            for worker in workers:
                worker.take_turn()
        print("\n".join([*table(workers), *alone(given.turns)]))
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    server.kill()
    server.join()


if __name__ == "__main__":
    main()
