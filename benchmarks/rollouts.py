"""Rollouts a second of a trivial agent, beside a bare loop of threads making the same calls to the same server.

    python benchmarks/rollouts.py [--rollouts 1000] [--in-flight 16]

The model server runs in a process of its own and answers at once, so what is measured is everything around the model:
scope, capture, parsing, the store's durable records. Both sides use one httpx client and the same number of threads.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from agentlightning import Task, open_store, wrap_agent
from agentlightning.models.ledger import Ledger
from agentlightning.trainer.bench import ORIGINAL
from agentlightning.trainer.budget import Budget, Limits
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.pace import Pace
from agentlightning.trainer.rollouts import Rollouts
from agentlightning.trainer.runner import Runner
from agentlightning.trainer.scoring import from_expected

SERVER = """
import asyncio, json
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason":
    "stop", "message": {"role": "assistant", "content": "ok"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
HEAD = f"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: {len(ANSWER)}\\r\\n\\r\\n"
REPLY = (HEAD + ANSWER).encode()

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0]))
            writer.write(REPLY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def bare(ask: Callable[[str], str], count: int, in_flight: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        answers = list(pool.map(ask, (f"question {i}" for i in range(count))))
    assert len(answers) == count
    return count / (time.perf_counter() - began)


def ours(ask: Callable[[str], str], count: int, in_flight: int) -> float:
    tasks = [Task(f"t{i}", f"question {i}", expected="ok") for i in range(count)]

    async def run(folder: str) -> float:
        store = open_store(folder)
        budget = Budget(Limits(), Ledger())
        runner = Runner(
            wrap_agent(ask, "function"), run_id="bench", store=store, budget=budget, pace=Pace(in_flight),
            timeout_seconds=60, retries=0,
        )  # fmt: skip
        rollouts = Rollouts(runner, store, Callbacks([]))
        rollouts.source = from_expected(tasks)
        began = time.perf_counter()
        groups = await rollouts.groups(tasks, policy=ORIGINAL, split="train", stage="bench")
        seconds = time.perf_counter() - began
        runner.close()
        await store.close()
        assert sum(len(group.rewards) for group in groups) == count, "a rollout was lost"
        return count / seconds

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(folder))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/chat/completions"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=given.in_flight)
    try:
        with httpx.Client(limits=limits) as client:

            def ask(question: str) -> str:
                body = {"model": "m", "messages": [{"role": "user", "content": question}]}
                return client.post(url, json=body).json()["choices"][0]["message"]["content"]

            print(f"{given.rollouts} rollouts, {given.in_flight} in flight")
            print(f"{'round':>5} {'bare loop/s':>12} {'rollouts/s':>12} {'ratio':>6}")
            for number in range(given.rounds):
                one = bare(ask, given.rollouts, given.in_flight)
                two = ours(ask, given.rollouts, given.in_flight)
                print(f"{number + 1:>5} {one:>12.0f} {two:>12.0f} {two / one:>6.2f}")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
