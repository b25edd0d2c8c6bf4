"""What benchmarks of rollouts share: a model server that answers at once, and rollouts with nothing around them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from agentlightning import Task, open_store, wrap_agent
from agentlightning.data.trajectory import Group
from agentlightning.models.ledger import Ledger
from agentlightning.trainer.bench import ORIGINAL
from agentlightning.trainer.budget import Budget, Limits
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.pace import Pace
from agentlightning.trainer.rollouts import Rollouts
from agentlightning.trainer.runner import Runner
from agentlightning.trainer.scoring import from_expected

_SERVER = r"""
import asyncio

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = answer(await reader.readexactly(size))
            start = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(start.encode() + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def serving(answer: str) -> Generator[str]:
    """The base URL of a server in a process of its own. `answer`: source of `answer(body: bytes) -> bytes`."""
    server = subprocess.Popen([sys.executable, "-c", answer + _SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    finally:
        server.kill()
        server.wait()


async def roll_out(ask: Callable[[str], Any], tasks: Sequence[Task], in_flight: int) -> list[Group]:
    """One judged rollout of each task, in a store on disk."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        runner = Runner(
            wrap_agent(ask, "function"), run_id="bench", store=store, budget=Budget(Limits(), Ledger()),
            pace=Pace(in_flight), timeout_seconds=600, retries=0,
        )  # fmt: skip
        rollouts = Rollouts(runner, store, Callbacks([]))
        rollouts.source = from_expected(tasks)
        groups = await rollouts.groups(tasks, policy=ORIGINAL, split="train", stage="bench")
        runner.close()
        await store.close()
    return groups
