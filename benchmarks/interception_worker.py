"""Ways of watching an agent's calls, in one process that makes calls when it is told to.

    PYTHON benchmarks/interception_worker.py PORT WAY … < orders

`interception.py` starts one in each interpreter and gives it orders. A line `call 10` (or `stream 1`) has each of the
ways make one, in turns, ten times; it is answered by a line of JSON, for each way the microseconds each call took, of
this thread's CPU and of the whole process (what was left to other threads is waited for).
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

import openai

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"

PROMPT = "You are a support agent for Acme. Today is 2026-11-22. " + "Answer in a friendly and precise way. " * 35
MESSAGES: Any = [{"role": "system", "content": PROMPT}, {"role": "user", "content": "Where is my order 17?"}]
Ask = Callable[..., None]
"""Make a call of these messages, streamed or not."""
Watched = tuple[Ask, Callable[[], Any]]
"""Make it watched; and wait until nothing is left to do."""


def _nothing() -> None:
    """All is done already."""


@contextmanager
def bare(ask: Ask) -> Iterator[Watched]:
    yield ask, _nothing


@cache
def policy() -> Any:
    from agentlightning.data.resource import Policy, PromptSite, Slot

    template = PROMPT.replace("2026-11-22", "⟦date⟧")
    site = PromptSite("support:system", "support", "system", template, [Slot("date", "date")])
    return Policy().with_prompt(site, template.replace("friendly", "kind"))


@cache
def _reader() -> queue.SimpleQueue[Any]:
    """Where ended calls go: read off the agent's thread as a run does it, parsed, cleaned, made a record."""
    from agentlightning.data.processor import clean_step
    from agentlightning.data.record import make_record

    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        while True:
            recorder, entry = ended.get()
            if recorder is None:
                entry.set()
                continue
            step = clean_step(recorder.step(entry))
            make_record("step", step.id, step, rollout=recorder.rollout_id)

    threading.Thread(target=read, daemon=True).start()
    return ended


@contextmanager
def recorded(ask: Ask, steered_by: Any = None) -> Iterator[Watched]:
    """Each call is a rollout."""
    from agentlightning.interception.recorder import Recorder
    from agentlightning.interception.scope import Scope, entered
    from agentlightning.interception.transports import install

    install()
    ended = _reader()

    def end(recorder: Any, entry: Any) -> None:
        ended.put((recorder, entry))

    def watched(messages: Any, *, stream: bool) -> None:
        with entered(Scope("support", recorder=Recorder(on_end=end), policy=steered_by)):
            ask(messages, stream=stream)

    def wait() -> None:
        done = threading.Event()
        ended.put((None, done))
        done.wait()

    yield watched, wait


def steered(ask: Ask) -> AbstractContextManager[Watched]:
    return recorded(ask, policy())


@cache
def _loaded(ask: Ask) -> Ask:
    from agentlightning import load_optimized_agent, wrap_agent
    from agentlightning.trainer.policy_folder import save_policy

    with tempfile.TemporaryDirectory() as folder:
        save_policy(policy(), folder)
        return load_optimized_agent(folder, wrap_agent(ask, name="support"))


@contextmanager
def loaded(ask: Ask) -> Iterator[Watched]:
    """The optimised agent in production: steered, kept nowhere."""
    yield _loaded(ask), _nothing


@cache
def _provider() -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return provider


@contextmanager
def _instrumented(instrumentor: Any, ask: Ask) -> Iterator[Watched]:
    instrumentor.instrument(tracer_provider=_provider())
    try:
        yield ask, _provider().force_flush
    finally:
        instrumentor.uninstrument()


def openinference(ask: Ask) -> AbstractContextManager[Watched]:
    from openinference.instrumentation.openai import OpenAIInstrumentor

    return _instrumented(OpenAIInstrumentor(), ask)


def genai(ask: Ask) -> AbstractContextManager[Watched]:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    return _instrumented(OpenAIInstrumentor(), ask)


@cache
def _tracer() -> Any:
    from agentlightning.tracer.agentops import AgentOpsTracer

    tracer = AgentOpsTracer()
    tracer.init()
    tracer.init_worker(0)
    return tracer


@contextmanager
def agentlightning_03(ask: Ask) -> Iterator[Watched]:
    """It cannot be taken off again, so nothing else can be measured in its process afterwards."""
    with _tracer()._trace_context_sync(name="benchmark"):
        yield ask, _nothing


WAYS: dict[str, Callable[[Ask], AbstractContextManager[Watched]]] = {
    "bare": bare,
    "recorded": recorded,
    "steered": steered,
    "loaded": loaded,
    "openinference": openinference,
    "genai": genai,
    "agentlightning-0.3": agentlightning_03,
}


def measured(act: Callable[[], None], wait: Callable[[], Any]) -> tuple[float, float]:
    """Do it. Microseconds: of this thread, of the process."""
    whole, mine = time.process_time_ns(), time.thread_time_ns()
    act()
    mine = time.thread_time_ns() - mine
    wait()
    return mine / 1000, (time.process_time_ns() - whole) / 1000


def main() -> None:
    port, *ways = sys.argv[1:]
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0)

    def ask(messages: Any, *, stream: bool) -> None:
        answer: Any = client.chat.completions.create(model="m", messages=messages, stream=stream)
        for _ in answer if stream else ():
            pass

    def obey(order: str) -> dict[str, list[tuple[float, float]]]:
        kind, count = order.split()
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(int(count)):
            for way in random.sample(ways, len(ways)):  # whoever follows another one meets the caches it left
                with WAYS[way](ask) as (watched, wait):
                    taken[way].append(measured(partial(watched, MESSAGES, stream=kind == "stream"), wait))
        return taken

    with client:
        for order in sys.stdin:
            print(f"measured {json.dumps(obey(order))}", flush=True)


if __name__ == "__main__":
    main()
