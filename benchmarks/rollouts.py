"""Rollouts a second of a trivial agent, beside a bare loop of threads making the same calls to the same server.

    python -m benchmarks.rollouts [--rollouts 1000] [--in-flight 16] [--peer PYTHON]

The model server runs in a process of its own and answers at once, so what is measured is everything around the model:
scope, capture, parsing, the store's durable records. Both sides use one httpx client and the same number of threads.
`--peer` names an interpreter that has agentlightning 0.3.0, which then does the same in each round (rollouts_peer.py).
Ratios by the clock are what users feel; those by processor time say more on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
from benchmarks.at_once import roll_out, serving

from agentlightning import Task

ANSWER = """
import json
ANSWER = json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason":
    "stop", "message": {"role": "assistant", "content": "ok"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})

def answer(body):
    return ANSWER.encode()
"""


class Pass(NamedTuple):
    """One side of a round."""

    per_second: float
    cpu_us: float
    """Processor time of a rollout, in microseconds."""


def timed(work: Callable[[], object], count: int) -> Pass:
    used, began = time.process_time(), time.perf_counter()
    work()
    return Pass(count / (time.perf_counter() - began), (time.process_time() - used) / count * 1e6)


def bare(ask: Callable[[str], str], count: int, in_flight: int) -> None:
    with ThreadPoolExecutor(in_flight) as pool:
        answers = list(pool.map(ask, (f"question {i}" for i in range(count))))
    assert answers == ["ok"] * count


def peer(python: str, url: str, count: int, in_flight: int) -> Pass:
    command = [python, str(Path(__file__).with_name("rollouts_peer.py")), url, str(count), str(in_flight)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment.pop("PYTHONPATH", None)
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, start_new_session=True)
    [line] = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")] or [""]
    assert line, ran.stderr[-3000:]
    told = json.loads(line.removeprefix("RESULT "))
    assert told["done"] == count, f"the peer lost {count - told['done']} rollouts"
    return Pass(count / told["seconds"], told["cpu"] / count * 1e6)


def ours(ask: Callable[[str], str], count: int, in_flight: int) -> None:
    tasks = [Task(f"t{i}", f"question {i}", expected="ok") for i in range(count)]
    groups = asyncio.run(roll_out(ask, tasks, in_flight))
    assert sum(reward == 1.0 for group in groups for reward in group.rewards) == count, "a rollout was lost"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rollouts", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has agentlightning 0.3.0")
    parser.add_argument("--peer-rollouts", type=int, default=200, help="it is slow")
    given = parser.parse_args()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=given.in_flight)
    with serving(ANSWER) as base:
        url = f"{base}/chat/completions"
        with httpx.Client(limits=limits) as client:

            def ask(question: str) -> str:
                body = {"model": "m", "messages": [{"role": "user", "content": question}]}
                return client.post(url, json=body).json()["choices"][0]["message"]["content"]

            print(f"{given.rollouts} rollouts, {given.in_flight} in flight; CPU in microseconds a rollout\n")
            print(
                "| round | bare loop/s | rollouts/s | ratio | bare CPU | our CPU | CPU ratio | 0.3.0/s | its CPU | × |"
            )
            print("|---|---|---|---|---|---|---|---|---|---|")
            bare(ask, given.rollouts // 4, given.in_flight)  # connections, and what is imported when first needed
            ours(ask, given.rollouts // 4, given.in_flight)
            for number in range(given.rounds):
                one = timed(lambda: bare(ask, given.rollouts, given.in_flight), given.rollouts)
                two = timed(lambda: ours(ask, given.rollouts, given.in_flight), given.rollouts)
                row = f"| {number + 1} | {one.per_second:,.0f} | {two.per_second:,.0f} "
                row += f"| {two.per_second / one.per_second:.2f} | {one.cpu_us:.0f} | {two.cpu_us:.0f} "
                row += f"| {one.cpu_us / two.cpu_us:.2f} |"
                if given.peer:
                    other = peer(given.peer, url, given.peer_rollouts, given.in_flight)
                    row += f" {other.per_second:.1f} | {other.cpu_us:,.0f} | {two.per_second / other.per_second:.0f} |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
