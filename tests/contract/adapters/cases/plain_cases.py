"""No framework, no SDK: plain functions that speak HTTP themselves; and a program of its own, one process a rollout."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.cases.sdk_cases import SDKCase
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI

from agentlightning.adapters.process import Program

_HTTP = """
ASYNC def chat(messages, tools):
    body = {"model": "m", "messages": messages, "stream": STREAM} | ({"tools": tools} if tools else {})
    response = requests.post(URL + "/v1/chat/completions", json=body, timeout=30)
    response.raise_for_status()
    if STREAM:
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
        pieces = [choice["delta"].get("content") or "" for line in lines for choice in json.loads(line)["choices"]]
        return "".join(pieces), [], []
    message = response.json()["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    results = [run(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": said} for call, said in zip(calls, results)]
    return message["content"], calls, [{"role": "assistant", "content": None, "tool_calls": calls}, *answers]
"""


class FunctionCase(SDKCase):
    name, package = "function", "requests"
    imports, body = "import requests\n", _HTTP


class FunctionGeneratorCase(FunctionCase):
    """An agent that streams its answer."""

    def entry(self, module: Any) -> Any:
        exec("def stream(question):\n    writer(question)\n    yield from critic(question).split('|')", vars(module))
        return module.stream

    def ask(self, agent: Any, question: str) -> Any:
        return "".join(agent(question))


_PROGRAM = """
import json, os, sys, urllib.request
WRITER, CRITIC, STREAM = {settings!r}

def said(system, question):
    messages = [{{"role": "system", "content": system}}, {{"role": "user", "content": question}}]
    body = json.dumps({{"model": "m", "messages": messages, "stream": STREAM}}).encode()
    headers = {{"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}}
    request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    text = urllib.request.urlopen(request).read().decode()
    if not STREAM:
        return json.loads(text)["choices"][0]["message"]["content"]
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: {{")]
    return "".join(c["delta"].get("content") or "" for line in lines for c in json.loads(line)["choices"])

question = sys.stdin.read()
said(WRITER, question)
print(said(CRITIC, question))
"""


class ProcessCase(Case):
    """A program is one agent, whatever goes on inside: its two prompts are two sites of it, and one is steered."""

    name, package = "process", "agentlightning"
    writer = critic = "duo"
    left_out = dict.fromkeys(
        [
            "test_tools_are_recorded",
            "test_a_tools_exception_is_recorded",
            "test_a_stubbed_tool_does_not_run",
            "test_a_recorded_tool_runs_once_and_a_replayed_one_never",
            "test_a_mode_for_a_tool_that_is_not_there_is_refused",
        ],
        "tools run inside the program; what they gave is seen in the next call, no more",
    ) | {
        "test_its_structure_is_told_to_people": "a program shows its command, tried in tests/adapters/test_process.py",
        "test_one_agent_of_it_is_trained_end_to_end": "hundreds of processes; tried in tests/adapters/test_process.py",
    }

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        os.environ["OPENAI_BASE_URL"] = server.base_url  # taken away again with the server
        folder = Path(tempfile.mkdtemp(prefix="agentlightning-contract-"))
        (folder / "duo.py").write_text(_PROGRAM.format(settings=(WRITER, CRITIC, stream)))
        return Program.of([sys.executable, "-S", "duo.py"], folder)


CASES = [FunctionCase(), FunctionGeneratorCase(), ProcessCase()]
