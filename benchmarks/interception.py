"""What recording and steering add to a model call, in CPU time of the calling thread.

    python benchmarks/interception.py [--calls 2000] [--peers PYTHON] [--peer PYTHON]

The same openai client is called bare and inside rollouts, in turns, against a server in another process, so that a busy
machine slows all of them alike. Told is the low decile: what a call costs when little disturbs it.

`--peers` is an interpreter that has openinference-instrumentation-openai and opentelemetry-instrumentation-openai-v2,
`--peer` one that has agentlightning 0.3.0; both are measured against the same server, in the same run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import openai

from agentlightning.data.resource import Policy, PromptSite, Slot
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install

NUM_CHUNKS = 200
PROMPT = "You are a support agent for Acme. Today is 2026-11-22. " + "Answer in a friendly and precise way. " * 35
SITE = PromptSite(
    id="support/system",
    agent="support",
    kind="system",
    template=PROMPT.replace("2026-11-22", "⟦date⟧"),
    slots=[Slot("date", "date")],
)
POLICY = Policy().with_prompt(SITE, PROMPT.replace("2026-11-22", "⟦date⟧").replace("friendly", "kind"))
MESSAGES: Any = [{"role": "system", "content": PROMPT}, {"role": "user", "content": "Where is my order 17?"}]
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


def serve(ready: Connection) -> None:
    """A model that has its bytes ready: one connection at a time, kept alive, answered at once."""
    plain, streamed = _plain(), _streamed()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                while body := _read(connection):
                    connection.sendall(streamed if b'"stream":true' in body else plain)


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


def measure(calls: Mapping[str, Callable[[], Any]], num_turns: int) -> dict[str, float]:
    """Microseconds of this thread's CPU each call takes: the low decile of many, the calls taking turns."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_turns):
        for name, call in calls.items():
            start = time.thread_time_ns()
            call()
            samples[name].append((time.thread_time_ns() - start) / 1000)
    return {name: statistics.quantiles(taken, n=10)[0] for name, taken in samples.items()}


def within(policy: Policy | None, call: Callable[[], Any]) -> Callable[[], Any]:
    """The call, as a rollout of its own."""

    def run() -> None:
        with entered(Scope("support", recorder=Recorder(), policy=policy)):
            call()

    return run


def rows(client: openai.OpenAI, num_calls: int) -> Iterator[tuple[str, float, float | None, float | None]]:
    """What was measured, its microseconds, what was added to the bare client, and the goal for that."""

    def plain() -> None:
        client.chat.completions.create(model="m", messages=MESSAGES)

    def streamed() -> None:
        for _ in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass

    plain(), streamed()
    took = measure({"bare": plain, "recorded": within(None, plain), "steered": within(POLICY, plain)}, num_calls)
    yield "call, bare", took["bare"], None, None
    yield "call, recorded", took["recorded"], took["recorded"] - took["bare"], 60
    yield "call, recorded and steered", took["steered"], took["steered"] - took["bare"], 120
    took = measure({"bare": streamed, "recorded": within(None, streamed)}, max(30, num_calls // 10))
    per_chunk = {name: taken / NUM_CHUNKS for name, taken in took.items()}
    yield "streamed chunk, bare", per_chunk["bare"], None, None
    yield "streamed chunk, recorded", per_chunk["recorded"], per_chunk["recorded"] - per_chunk["bare"], 5


def peers(pythons: Mapping[str, str | None], port: int, num_calls: int) -> Iterator[tuple[str, float, float]]:
    """What other ways of watching add to a call and to a chunk, each in an interpreter that has it."""
    script = Path(__file__).with_name("interception_peers.py")
    for name, python in pythons.items():
        if python is None:
            continue
        arguments = [
            str(Path(python).absolute()),
            str(script.resolve()),
            name,
            str(port),
            str(num_calls),
            str(NUM_CHUNKS),
        ]
        with tempfile.TemporaryDirectory() as folder:  # some leave a log where they run
            ran = subprocess.run(arguments, input=json.dumps(MESSAGES), capture_output=True, text=True, cwd=folder)
        if ran.returncode:
            raise SystemExit(f"{name} could not be measured by {python}:\n{ran.stderr[-2000:]}")
        added = json.loads(ran.stdout.splitlines()[-1])
        yield name, added["call"], added["chunk"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000, help="of each kind; streams are a tenth of it")
    parser.add_argument("--peers", help="an interpreter with OpenInference and the official GenAI instrumentation")
    parser.add_argument("--peer", help="an interpreter with agentlightning 0.3.0")
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    install()
    port = ours.recv()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0) as client:
        print(f"{'':28}{'µs':>8}{'added':>8}{'goal':>8}")
        for name, microseconds, added, goal in rows(client, given.calls):
            compared = "" if added is None else f"{added:8.1f}{f'≤ {goal}':>8}"
            print(f"{name:28}{microseconds:8.1f}{compared}")
    pythons = {"openinference": given.peers, "genai": given.peers, "agentlightning-0.3": given.peer}
    for name, call, chunk in peers(pythons, port, given.calls):
        print(f"{name:28}{'':8}{call:8.1f} a call, {chunk:.1f} a streamed chunk")
    server.kill()
    server.join()


if __name__ == "__main__":
    main()
