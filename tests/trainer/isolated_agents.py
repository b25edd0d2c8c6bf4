"""Agents that worker processes load by name; where their model is, the environment says."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from tests.trainer.worlds import PROMPT

from agentlightning import Task, emit_reward, step, wrap_agent

CLIENT = httpx.Client()
atexit.register(CLIENT.close)
ASYNC = httpx.AsyncClient()
_count = 0


def _request(question: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
    return {"url": os.environ["MODEL_URL"] + "/chat/completions", "json": {"model": "m", "messages": messages}}


def parrot(question: str) -> str:
    response = CLIENT.post(**_request(question), headers={"authorization": "Bearer sk-agent"})
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


async def async_parrot(question: str) -> str:
    response = await ASYNC.post(**_request(question))
    return response.json()["choices"][0]["message"]["content"]


async def streaming_parrot(question: str) -> AsyncIterator[str]:
    for word in (await async_parrot(question)).split():
        yield word + " "


def counting(question: str) -> dict[str, int]:
    """Not safe to run side by side, and proud of it."""
    global _count
    before = _count
    time.sleep(0.02)
    _count = before + 1
    return {
        "pid": os.getpid(),
        "count": _count,
        "is_main_thread": threading.current_thread() is threading.main_thread(),
    }


def proud(question: str) -> str:
    answer = parrot(question)
    emit_reward(0.5, "half", step=True)
    emit_reward(2.0, name="words", metric=True)
    emit_reward(0.7, "rather good")
    if "crash" in question:
        os._exit(3)
    return answer


def failing(question: str) -> str:
    """Fails in the way the question says."""
    match question.split()[0]:
        case "raise":
            raise ValueError("wrong")
        case "leave":
            sys.exit(4)
        case "exit":
            os._exit(7)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), 9)
        case "spin":
            while True:
                pass
        case "hold":  # the interpreter's lock is never given back, so no other thread runs
            ctypes.PyDLL(None).sleep(1000)
        case "sleep":
            time.sleep(1000)
        case _:
            pass
    return parrot(question)


def dying_in_a_call(question: str) -> str:
    """Its process ends while the model is thinking."""
    if question == "die":
        threading.Timer(0.3, os._exit, [7]).start()
    return parrot(question)


def break_down(word: str) -> str:
    if word == "die":
        os._exit(7)
    return word


tool_that_breaks_down = step(kind="tool", name="break_down")(break_down)


def dying_in_a_tool(question: str) -> str:
    return tool_that_breaks_down(question)


def parent(question: str) -> str:
    """Starts a program and does not wait for it, then waits itself."""
    pid_file = Path(os.environ["PID_FILE"])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    pid_file.with_suffix(".part").write_text(f"{os.getpid()} {child.pid}")
    pid_file.with_suffix(".part").rename(pid_file)
    if "hold" in question:
        ctypes.PyDLL(None).sleep(1000)
    time.sleep(1000)
    return ""


PROGRAM = """
import json, os, sys, urllib.request
system, user = {"role": "system", "content": sys.argv[2]}, {"role": "user", "content": sys.argv[1]}
body = {"model": "m", "messages": [system, user]}
headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
answer = urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))
print(json.load(answer)["choices"][0]["message"]["content"])
"""


def delegating(question: str) -> str:
    """Lets a program of its own ask the model."""
    command = [sys.executable, "-c", PROGRAM, question, PROMPT]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def look_up(word: str) -> str:
    """Leaves a line for every time it really runs."""
    with Path(os.environ["LOOK_UPS"]).open("a") as file:
        file.write(word + "\n")
    time.sleep(0.3)
    return word.upper()


async def look_up_async(word: str) -> str:
    await asyncio.sleep(0.01)
    return look_up(word)


looked = step(kind="tool", name="look_up")(look_up)
looked_async = step(kind="tool", name="look_up")(look_up_async)


def user_of_tools(question: str) -> str:
    parrot(question)
    return looked("word")


async def async_user_of_tools(question: str) -> list[str]:
    return list(await asyncio.gather(looked_async("word"), looked_async("word")))


@wrap_agent
def decorated(question: str) -> str:
    return parrot(question)


class Greeter:
    """Can be pickled, and is no variable of this module."""

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def __call__(self, question: str) -> str:
        return self.greeting + parrot(question)


_table: dict[str, str] = {}


def fill(task: Task) -> None:
    """As `set_up`: where the agent will look."""
    if "broken" in str(task.input):
        raise ValueError("no table")
    _table["task"] = str(task.input)


async def empty() -> None:
    """As `tear_down`."""
    _table.clear()
    with Path(os.environ["LOOK_UPS"]).open("a") as file:
        file.write(f"{os.getpid()}\n")


def reader(question: str) -> dict[str, Any]:
    if "hang" in question:
        time.sleep(1000)
    return {"read": dict(_table), "pid": os.getpid()}
