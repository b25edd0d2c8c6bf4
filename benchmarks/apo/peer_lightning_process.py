"""Runs in an environment of its own, beside agentlightning 0.3.0: its APO class, its store, and no sleep.

One JSON line comes in for each search; this process writes lines that ask for what the search needs ("run" the agent,
"complete" a request) and reads one line of answer each. Where the class waits for its runner by sleeping two seconds,
the queued rollouts are run instead, so that nothing it decides depends on the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import logging
import random
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agentlightning.algorithm.apo.apo as theirs

from agentlightning import InMemoryLightningStore, PromptTemplate, Span, TraceToMessages

_TAG = re.compile(r"<[^>]*>")


class OutOfCalls(Exception):
    """The calls are spent."""


def ask(question: dict[str, Any]) -> dict[str, Any]:
    sys.__stdout__.write(json.dumps(question) + "\n")
    sys.__stdout__.flush()
    answer = json.loads(sys.stdin.readline())
    if answer.get("is_over"):
        raise OutOfCalls
    return answer


def render(template: Path, context: dict[str, Any], format: str) -> dict[str, Any]:
    """One of the class's own request templates, with its words and data, in the place of poml's slow rendering."""
    words = _TAG.sub("", re.sub(r"<cp for=.*?</cp>", "", Path(template).read_text(), flags=re.DOTALL))
    words = words.replace("{{ prompt_template }}", context["prompt_template"])
    words = words.replace("{{ critique }}", context.get("critique", ""))
    runs = [_run(number, experiment) for number, experiment in enumerate(context.get("experiments", []), start=1)]
    return {"messages": [{"role": "user", "content": "\n".join([words, *runs])}]}


def _run(number: int, experiment: dict[str, Any]) -> str:
    said = [f"{m['role']}: {m['content']}" for call in experiment["messages"] for m in call["messages"]]
    told = [line for line in said if not line.startswith("system: ")]
    return "\n".join([f"### Sample Run {number}", *told, f"final reward: {experiment['final_reward']}"])


class Completions:
    """The little of an OpenAI client that the class uses."""

    async def create(self, *, messages: list[dict[str, str]], **options: Any) -> Any:
        text = ask({"complete": messages[0]["content"]})["text"]
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=text))])


async def run_queue(store: Any) -> None:
    """What its runner does: take the queued rollouts one by one, run the agent, write the trace and the reward."""
    while (rollout := await store.dequeue_rollout()) is not None:
        resources = await store.get_resources_by_id(rollout.resources_id)
        text = resources.resources["prompt"].template
        done = ask({"run": rollout.input, "prompt": text})
        ids = {"rollout_id": rollout.rollout_id, "attempt_id": rollout.attempt.attempt_id}
        call = {
            **_message("prompt.0", "system", text),
            **_message("prompt.1", "user", done["input"]),
            **_message("completion.0", "assistant", done["output"]),
        }
        graded = {
            **_message("prompt.0", "user", "Grade this answer."),
            **_message("completion.0", "assistant", done["feedback"]),
        }
        reward = {"agentlightning.reward.0.name": "reward", "agentlightning.reward.0.value": done["reward"]}
        for number, attributes in enumerate((call, graded, reward), start=1):
            await store.add_span(Span.from_attributes(attributes=attributes, sequence_id=number, **ids))
        await store.update_attempt(**ids, status="succeeded")


def _message(place: str, role: str, content: str) -> dict[str, str]:
    return {f"gen_ai.{place}.role": role, f"gen_ai.{place}.content": content}


async def search(wanted: dict[str, Any]) -> str:
    """The best prompt of one search; of one cut off by the end of the calls, the best so far."""
    store = InMemoryLightningStore()
    client: Any = SimpleNamespace(chat=SimpleNamespace(completions=Completions()))
    algorithm: Any = theirs.APO(client, **wanted["settings"])
    adapter = TraceToMessages()  # the class keeps but a weak reference
    algorithm.set_store(store)
    algorithm.set_adapter(adapter)
    algorithm.set_initial_resources({"prompt": PromptTemplate(template=wanted["start"], engine="f-string")})

    async def run_instead(seconds: float) -> None:
        await run_queue(store)

    theirs.asyncio = SimpleNamespace(sleep=run_instead)
    random.seed(wanted["seed"])
    with contextlib.suppress(OutOfCalls):
        await algorithm.run(train_dataset=wanted["train"], val_dataset=wanted["validation"])
    return algorithm.get_best_prompt().template


def main() -> None:
    logging.disable(logging.WARNING)
    theirs.poml = SimpleNamespace(poml=render)
    # These build the same pydantic schemas anew for every span they read.
    for name in ("agentlightning.emitter.reward", "agentlightning.adapter.messages"):
        module: Any = importlib.import_module(name)
        module.TypeAdapter = functools.cache(module.TypeAdapter)
    for line in sys.stdin:
        best = asyncio.run(search(json.loads(line)))
        sys.__stdout__.write(json.dumps({"best": best}) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    main()
