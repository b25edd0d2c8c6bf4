"""Run as a program: an agent whose client is at module level, called on several event loops; prints what came back.

python loop_calls.py http://127.0.0.1:1234/v1 httpx|httpx2|openai|aiohttp notebook|repeated|one

A program of its own, since nobody closes such a client, and `asyncio.run` leaves its connections behind.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import cache
from typing import Any

import aiohttp
import httpx
import httpx2
import openai

from agentlightning import wrap_agent
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.trainer.execution import AgentThreads

URL, KIND, SCENE = sys.argv[1:]
KINDS: dict[str, Any] = {
    "httpx": httpx.AsyncClient,
    "httpx2": httpx2.AsyncClient,
    "openai": lambda: openai.AsyncOpenAI(base_url=URL, api_key="k", max_retries=0),
    "aiohttp": aiohttp.ClientSession,  # can only be made on a loop
}
MESSAGES: Any = [{"role": "user", "content": "?"}]


@cache
def client() -> Any:
    return KINDS[KIND]()


async def ask(question: str) -> str:
    if KIND == "openai":
        return (await client().chat.completions.create(model="m", messages=MESSAGES)).choices[0].message.content
    response = await client().post(f"{URL}/chat/completions", json={"model": "m", "messages": MESSAGES})
    told = response.json()
    return (await told if KIND == "aiohttp" else told)["choices"][0]["message"]["content"]


AGENT = wrap_agent(ask)


async def several(count: int) -> list[str]:
    return await asyncio.gather(*(AGENT("?") for _ in range(count)))


def a_run() -> list[str]:
    """Rollouts on the agents' loop, which ends with the run."""

    async def work() -> list[str]:
        threads = AgentThreads()
        scopes = [Scope("ask", recorder=Recorder()) for _ in range(3)]
        try:
            return await asyncio.gather(
                *(threads.run(lambda: AGENT.adapter.invoke("?"), scope, 10) for scope in scopes)
            )
        finally:
            threads.close()

    return asyncio.run(work())


async def notebook() -> list[str]:
    """Calls, a run that holds up the loop as a cell does, calls again; twice."""
    told: list[str] = []
    for _ in range(2):
        told += await several(5)
        told += await asyncio.to_thread(a_run)
    return [*told, await AGENT("?"), *await several(5)]


def repeated() -> list[str]:
    """An `asyncio.run` for each rollout."""
    told: list[str] = []
    for _ in range(3):
        with entered(Scope("ask", recorder=Recorder())):
            told += asyncio.run(several(2))
    return told


async def one() -> list[str]:
    told: list[str] = []
    for _ in range(3):
        with entered(Scope("ask", recorder=Recorder())):
            told.append(await AGENT("?"))
    return told


if __name__ == "__main__":
    scenes: dict[str, Any] = {"notebook": lambda: asyncio.run(notebook()), "repeated": repeated}
    print(json.dumps(scenes.get(SCENE, lambda: asyncio.run(one()))()))
