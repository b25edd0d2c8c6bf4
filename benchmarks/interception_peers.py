"""What other ways of watching add to the same model call; run by their own interpreters (`interception.py --peers …`).

    PYTHON benchmarks/interception_peers.py NAME PORT NUM_CALLS NUM_CHUNKS < messages.json

Bare first, then watched, in one process. Spans stay in memory and are handed over by a batch processor, off the thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import openai

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"


def _provider() -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return provider


def openinference(stack: contextlib.ExitStack) -> None:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=_provider())


def genai(stack: contextlib.ExitStack) -> None:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=_provider())


def agentlightning_03(stack: contextlib.ExitStack) -> None:
    from agentlightning.tracer.agentops import AgentOpsTracer

    tracer = AgentOpsTracer()
    tracer.init()
    tracer.init_worker(0)
    stack.enter_context(tracer._trace_context_sync(name="benchmark"))


WATCHERS: dict[str, Callable[[contextlib.ExitStack], None]] = {
    "openinference": openinference,
    "genai": genai,
    "agentlightning-0.3": agentlightning_03,
}


def low_decile(call: Callable[[], Any], count: int) -> float:
    """Microseconds of this thread's CPU, as in `interception.measure`."""
    taken: list[float] = []
    for _ in range(count):
        start = time.thread_time_ns()
        call()
        taken.append((time.thread_time_ns() - start) / 1000)
    return statistics.quantiles(taken, n=10)[0]


def main() -> None:
    name, port, num_calls, num_chunks = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    messages: Any = json.load(sys.stdin)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)

    def plain() -> None:
        client.chat.completions.create(model="m", messages=messages)

    def streamed() -> None:
        for _ in client.chat.completions.create(model="m", messages=messages, stream=True):
            pass

    def both() -> tuple[float, float]:
        plain(), streamed()
        return low_decile(plain, num_calls), low_decile(streamed, max(30, num_calls // 10)) / num_chunks

    bare = both()
    with contextlib.ExitStack() as stack:
        WATCHERS[name](stack)
        watched = both()
    client.close()
    print(json.dumps({"call": watched[0] - bare[0], "chunk": watched[1] - bare[1]}))


if __name__ == "__main__":
    main()
