"""Run as a program: make one call through every library, and print what came back.

python wire_calls.py http://127.0.0.1:1234 bare|installed|inside
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import ExitStack, nullcontext
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import requests

BODY = {"model": "m", "messages": [{"role": "user", "content": "é"}], "seed": 12345678901234567890}
RAW = b'{ "messages":[] ,"model":"m", "x": 1.0 }'
HEADERS = {"Authorization": "Bearer k", "X-Mixed-Case": "1", "Content-Type": "application/json"}


def plain(url: str) -> list[Any]:
    """Calls that are not streamed."""
    path = f"{url}/v1/chat/completions"
    told: list[Any] = []
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        told.append(client.chat.completions.create(**BODY).model_dump())
        told.append(client.chat.completions.with_raw_response.create(**BODY).text)
    for library in (httpx, httpx2):
        with library.Client(headers={"X-Client": "1"}) as client:
            told.append(client.post(path, content=RAW, headers=HEADERS).text)
            told.append(client.post(path, json=BODY).text)
            told.append(client.get(f"{url}/v1/models").text)
    with requests.Session() as session:
        told.append(session.post(path, data=RAW, headers=HEADERS, timeout=5).text)
        told.append(session.post(path, json=BODY, timeout=5).text)
    return told + asyncio.run(plain_async(url, path))


async def plain_async(url: str, path: str) -> list[Any]:
    told: list[Any] = []
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        told.append((await client.chat.completions.create(**BODY)).model_dump())
    async with httpx.AsyncClient() as client:
        told.append((await client.post(path, content=RAW, headers=HEADERS)).text)
    async with aiohttp.ClientSession(headers={"X-Client": "1"}) as session:
        for options in ({"data": RAW, "headers": HEADERS}, {"json": BODY}):
            async with session.post(path, **options) as response:
                told.append(await response.text())
    return told


def streamed(url: str) -> list[Any]:
    """Calls whose answer is read piece by piece."""
    path, told = f"{url}/v1/chat/completions", []
    body = {**BODY, "stream": True}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        told += [chunk.model_dump() for chunk in client.chat.completions.create(**body)]
    with httpx.Client() as client, client.stream("POST", path, json=body) as response:
        told.append(b"".join(response.iter_raw()).decode())
    with requests.post(path, json=body, stream=True, timeout=5) as response:
        told += [line.decode() for line in response.iter_lines()]
    return told + asyncio.run(streamed_async(url, path, body))


async def streamed_async(url: str, path: str, body: dict[str, Any]) -> list[Any]:
    told: list[Any] = []
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        told += [chunk.model_dump() async for chunk in await client.chat.completions.create(**body)]
    async with aiohttp.ClientSession() as session, session.post(path, json=body) as response:
        told += [line.decode() async for line in response.content]
    return told


def main(url: str, mode: str) -> None:
    scope: Any = nullcontext()
    if mode != "bare":
        from agentlightning.interception.recorder import Recorder
        from agentlightning.interception.scope import Scope, entered
        from agentlightning.interception.transports import install

        install()
        if mode == "inside":
            scope = entered(Scope("helper", recorder=Recorder()))
    with ExitStack() as stack:
        stack.enter_context(scope)
        told = plain(url) + ([] if mode == "inside" else streamed(url))
    assert ("agentlightning" in sys.modules) == (mode != "bare")
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
