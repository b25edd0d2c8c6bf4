"""Thousands of rollouts of an async agent in flight: what each holds in memory, and what waiting costs.

    python -m benchmarks.in_flight [--sizes 1000 2000 5000] [--wait 5]

The model server runs in a process of its own, keeps every call open until all have arrived, and `--wait` seconds more.
Memory is what the process grew by at its peak, once as a bare loop of the same calls and once as rollouts; idle CPU is
the processor time used in the middle of the wait, in percent of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
from benchmarks.at_once import roll_out

from agentlightning import Task

SERVER = """
import asyncio, json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
EXPECTED, WAIT = int(sys.argv[1]), float(sys.argv[2])
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason":
    "stop", "message": {"role": "assistant", "content": "ok"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})
HEAD = f"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: {len(ANSWER)}\\r\\n\\r\\n"
REPLY = (HEAD + ANSWER).encode()
arrived, everybody = 0, None

async def serve(reader, writer):
    global arrived
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0]))
    arrived += 1
    if arrived == EXPECTED:
        print("all here", flush=True)
        asyncio.get_running_loop().call_later(WAIT, everybody.set)
    await everybody.wait()
    writer.write(REPLY)

async def main():
    global everybody
    everybody = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


async def bare(ask: Any, count: int) -> int:
    answers = await asyncio.gather(*(ask(f"question {i}") for i in range(count)))
    return sum(answer == "ok" for answer in answers)


async def ours(ask: Any, count: int) -> int:
    groups = await roll_out(ask, [Task(f"t{i}", f"question {i}", expected="ok") for i in range(count)], count)
    return sum(reward == 1.0 for group in groups for reward in group.rewards)


def measure(kind: str, count: int, wait: float) -> dict[str, float]:
    """One size, in this process, which does nothing else: memory before it does not count."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(count), str(wait)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/chat/completions"
    sessions: list[aiohttp.ClientSession] = []
    seen: dict[str, float] = {}

    async def ask(question: str) -> str:
        if not sessions:  # it belongs to the loop it is made on
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body = {"model": "m", "messages": [{"role": "user", "content": question}]}
        async with sessions[0].post(url, json=body) as response:
            return (await response.json())["choices"][0]["message"]["content"]

    def watch() -> None:
        assert server.stdout is not None
        server.stdout.readline()
        time.sleep(wait * 0.3)  # what the last arrivals set off is over
        seen["threads"], seen["memory"] = threading.active_count(), _resident()
        used, since = time.process_time(), time.monotonic()
        time.sleep(wait * 0.4)
        seen["idle"] = (time.process_time() - used) / (time.monotonic() - since)

    watcher = threading.Thread(target=watch)
    before = _resident()
    watcher.start()
    used, began = time.process_time(), time.monotonic()
    try:
        done = asyncio.run((bare if kind == "bare" else ours)(ask, count))
    finally:
        server.kill()
        server.wait()
    watcher.join()
    return {
        "done": done,
        "kb": (seen["memory"] - before) / 1024 / count,
        "threads": seen["threads"] - 1,
        "idle": 100 * seen["idle"],
        "cpu": 1000 * (time.process_time() - used) / count,
        "seconds": time.monotonic() - began - wait,
    }


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 5000])
    parser.add_argument("--wait", type=float, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], int(given.one[1]), given.wait)), flush=True)
        os._exit(0)  # the session's loop is gone, so it can no longer be closed
    print(
        "| in flight | what | finished | memory each, KB | threads | idle CPU, % | CPU each, ms | s without the wait |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for count in given.sizes:
        for kind in ("bare", "rollouts"):
            command = [
                sys.executable,
                "-m",
                "benchmarks.in_flight",
                "--wait",
                str(given.wait),
                "--one",
                kind,
                str(count),
            ]
            row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            shown = f"{row['done']:.0f} | {row['kb']:.0f} | {row['threads']:.0f} | {row['idle']:.1f} | {row['cpu']:.2f}"
            print(f"| {count:,} | {kind} | {shown} | {row['seconds']:.1f} |")


if __name__ == "__main__":
    main()
