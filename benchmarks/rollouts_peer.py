"""agentlightning 0.3.0 at the same work, for benchmarks/rollouts.py: run by an interpreter that has it installed.

    python benchmarks/rollouts_peer.py URL ROLLOUTS RUNNERS [STRATEGY]

Its own Trainer, runners and in-memory store, which keeps nothing on disk. Made easy for it: all rollouts are enqueued
in one call, a free runner looks for work every 50 ms (5 s by default), the lighter of its tracers is used, and the
clock starts when the runners are up. Runners are processes, its default (`cs`); as threads (`shm`) all but one fail,
because its tracer can be set only once. Prints JSON: seconds, CPU seconds of all its processes, rollouts that ended
well.
"""

# pyright: basic, reportMissingImports=false, reportCallIssue=false, reportAttributeAccessIssue=false
# (the agentlightning meant here is another one)

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from agentlightning.types import EnqueueRolloutRequest

import agentlightning as agl

URL, COUNT, RUNNERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
STRATEGY = sys.argv[4] if len(sys.argv) > 4 else "cs"
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=RUNNERS)
CLIENTS: dict[int, httpx.Client] = {}
PROMPT = {"prompt": agl.PromptTemplate(template="{question}", engine="f-string")}


class Asking(agl.LitAgent[Any]):
    """One call; a client for each process."""

    def rollout(self, task: Any, resources: Any, rollout: Any) -> float:
        client = CLIENTS.setdefault(os.getpid(), httpx.Client(limits=LIMITS))
        body = {"model": "m", "messages": [{"role": "user", "content": task["question"]}]}
        answer = client.post(URL, json=body).json()["choices"][0]["message"]["content"]
        return 1.0 if answer == "ok" else 0.0


def cpu_seconds() -> float:
    """Of every process of our session, which is ours alone."""
    used = 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = process.read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) if int(fields[3]) == os.getsid(0) else 0
    return used / os.sysconf("SC_CLK_TCK")


async def rollouts(store: Any, count: int) -> int:
    inputs = [{"question": f"question {i}"} for i in range(count)]
    requests = [EnqueueRolloutRequest(input=each, mode="train", resources_id="default") for each in inputs]
    asked = [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]
    ended: list[Any] = []
    while len(ended) < count:
        ended = await store.query_rollouts(rollout_id_in=asked, status_in=["succeeded", "failed", "cancelled"])
        await asyncio.sleep(0.05)
    return sum(rollout.status == "succeeded" for rollout in ended)


@agl.algo
async def everything(*, store: Any) -> None:
    """All at once, after a first few that tell that the runners are up."""
    await store.update_resources("default", PROMPT)
    await rollouts(store, 2 * RUNNERS)
    used, began = cpu_seconds(), time.perf_counter()
    done = await rollouts(store, COUNT)
    seconds = time.perf_counter() - began
    told = {"seconds": seconds, "cpu": cpu_seconds() - used, "done": done}
    print("RESULT " + json.dumps(told), flush=True)


def main() -> None:
    runner = {"type": "agentlightning.LitAgentRunner", "poll_interval": 0.05, "interval_jitter": 0.01}
    strategy: Any = {"type": STRATEGY, "n_runners": RUNNERS}
    if STRATEGY == "shm":
        strategy["main_thread"] = "algorithm"
    trainer = agl.Trainer(
        algorithm=everything, n_runners=RUNNERS, tracer=agl.OtelTracer(), strategy=strategy, runner=runner
    )
    trainer.fit(Asking())


if __name__ == "__main__":
    main()
