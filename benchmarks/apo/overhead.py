"""What a whole run of prompt optimisation takes beyond its model calls: interception, search, judging, store, report.

    python -m benchmarks.apo.overhead [--rounds 5] [--calls 580]

An agent of the OpenAI SDK and a server in a process of its own that answers at once, as the agent's model and as the
optimiser. In turns: a run through the Trainer, its store on disk, and a bare loop of threads making as many calls. What
the run takes more is scaled to 500 calls. The first round also imports what is imported when first needed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.at_once import serving
from openai import OpenAI

from agentlightning import Trainer, wrap_agent

IN_FLIGHT = 16
ANSWER = r'''
import json, re

KINDS = ("red", "green", "blue", "gold")

def told(messages):
    """The desk where the instruction names it; as the optimiser, the instruction with one desk more."""
    text = messages[-1]["content"]
    current = re.search(r"<instruction[^>]*>\n?(.*?)\n?</instruction>", text, re.S)
    if current is None:
        kind = next(kind for kind in KINDS if kind in text)
        return f"{kind} desk" if f"about {kind} go" in messages[0]["content"] else "front desk"
    kind = next((kind for kind in KINDS if f"about {kind} go" not in current[1]), "red")
    new = f"{current[1]}\nTickets about {kind} go to the {kind} desk."
    return f"IDEA: say where {kind} goes\n<instruction>\n{new}\n</instruction>"

def answer(content):
    said = told(json.loads(content)["messages"])
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(body).encode()
'''
RULES = "You are the desk clerk. Name the desk a ticket goes to."


def timed(work: Callable[[], int]) -> tuple[int, float, float]:
    """What it gives, and how long it took by the clock and of processor time."""
    used, began = time.process_time(), time.perf_counter()
    given = work()
    return given, time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=580, help="the budget; a part of it is left over")
    given = parser.parse_args()
    with serving(ANSWER) as url:
        client = OpenAI(base_url=url, api_key="none")

        def clerk(ticket: str) -> str:
            messages = [{"role": "system", "content": RULES}, {"role": "user", "content": ticket}]
            return client.chat.completions.create(model="m", messages=messages).choices[0].message.content or ""  # pyright: ignore

        kinds = ("red", "green", "blue", "gold")
        tasks = [
            {"input": f"ticket {i}: my {kinds[i % 4]} thing", "expected": f"{kinds[i % 4]} desk"} for i in range(160)
        ]

        def run() -> int:
            with tempfile.TemporaryDirectory() as folder:
                trainer = Trainer(
                    wrap_agent(clerk), store=f"{folder}/store", output_dir=f"{folder}/out",
                    budget={"calls": given.calls}, progress=False,
                )  # fmt: skip
                result = trainer.train(tasks)
                assert result.verdict == "improved", result
                return result.cost.calls

        print("| round | calls | run, s | CPU s | bare loop, s | CPU s | beyond, s per 500 calls | CPU s |")
        print("|---|---|---|---|---|---|---|---|")
        for number in range(given.rounds):
            calls, seconds, cpu = timed(run)

            def bare(calls: int = calls) -> int:
                with ThreadPoolExecutor(IN_FLIGHT) as pool:
                    return len(list(pool.map(clerk, [tasks[i % len(tasks)]["input"] for i in range(calls)])))

            _, bare_seconds, bare_cpu = timed(bare)
            beyond = [(mine - theirs) * 500 / calls for mine, theirs in ((seconds, bare_seconds), (cpu, bare_cpu))]
            print(
                f"| {number + 1} | {calls} | {seconds:.2f} | {cpu:.2f} | {bare_seconds:.2f} | {bare_cpu:.2f} "
                f"| {beyond[0]:.2f} | {beyond[1]:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
