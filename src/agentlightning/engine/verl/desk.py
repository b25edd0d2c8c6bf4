"""Where verl's workers come: they ask for rollouts, and they answer the model calls that these make.

Everything goes one way, from them to us, so a worker needs no port. A rollout is one long request. Calls wait in one
queue for whichever worker asks next: all of them speak for the same weights, and verl's own balancer spreads the load.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentlightning.engine.base import Order, Played
from agentlightning.engine.torch.row import Row
from agentlightning.engine.verl.sockets import bound
from agentlightning.errors import ModelError

_POLL_SECONDS = 5.0
"""How long a worker that asks for a call is kept waiting for one."""


class Wanted(msgspec.Struct, frozen=True):
    """A rollout, as a worker asks for it."""

    task: str
    num_updates: int
    is_validation: bool


class Said(msgspec.Struct, frozen=True):
    """A worker's answer to a call: what was drawn, or why nothing was."""

    token_ids: list[int] = []
    logprobs: list[float] = []
    error: str = ""


class _Asked(msgspec.Struct, frozen=True):
    id: str
    row: Row
    said: asyncio.Future[Said]

    def told(self) -> dict[str, Any]:
        row = self.row
        sampling = {"temperature": row.temperature, "top_p": row.top_p, "top_k": row.top_k or -1}
        limits = {"max_tokens": row.max_length - row.num_prompt, "stop_token_ids": sorted(row.ends), "seed": row.seed}
        prompt = row.ids[: row.num_prompt]
        return {"id": self.id, "rollout": row.rollout_id, "prompt_ids": prompt, "sampling": sampling | limits}


class Desk:
    """For one event loop, on which it also serves."""

    def __init__(self, play: Callable[[Order], Awaitable[Played]], *, host: str = "127.0.0.1") -> None:
        self.key = secrets.token_urlsafe(24)
        self._play = play
        self._host = host
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue()
        self._given: dict[str, _Asked] = {}
        self._draws: Counter[Wanted] = Counter()
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._why_closed = ""

    async def open(self) -> str:
        """Begin to listen; gives the address."""
        listening = bound(self._host)
        routes = [
            Route("/rollouts", self._rollout, methods=["POST"]),
            Route("/calls/next", self._next_call, methods=["POST"]),
            Route("/calls/{id}", self._answer, methods=["POST"]),
        ]
        app = Starlette(routes=routes)
        config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        return f"http://{self._host}:{listening.getsockname()[1]}"

    async def close(self, why: str) -> None:
        """No call is answered any more; those that wait end with a ModelError that says why."""
        self._why_closed = why
        waiting = [*self._given.values(), *(self._waiting.get_nowait() for _ in range(self._waiting.qsize()))]
        self._given.clear()
        for asked in waiting:
            if not asked.said.done():
                asked.said.set_exception(ModelError(why))
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def complete(self, row: Row) -> None:
        """Have the row sampled by verl's servers, to its end. ModelError when that fails."""
        if self._why_closed:
            raise ModelError(self._why_closed)
        asked = _Asked(secrets.token_hex(8), row, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait(asked)
        said = await asked.said
        if said.error or not said.token_ids or len(said.logprobs) != len(said.token_ids):
            why = said.error or f"it gave {len(said.token_ids)} ids and {len(said.logprobs)} logprobs"
            raise ModelError(f"verl's server did not answer a call: {why}")
        for id, logprob in zip(said.token_ids, said.logprobs, strict=True):
            if row.add(id, logprob):
                return
        row.finish_reason = "length"

    async def _rollout(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        wanted = msgspec.json.decode(await request.body(), type=Wanted)
        draw = self._draws[wanted]
        self._draws[wanted] += 1
        order = Order(wanted.task, wanted.num_updates, draw, wanted.is_validation)
        return _json(await self._play(order))

    async def _next_call(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        try:
            asked = await asyncio.wait_for(self._waiting.get(), _POLL_SECONDS)
        except TimeoutError:
            return _json({})
        self._given[asked.id] = asked
        return _json(asked.told())

    async def _answer(self, request: Request) -> Response:
        if (refused := self._refused(request)) is not None:
            return refused
        said = msgspec.json.decode(await request.body(), type=Said)
        asked = self._given.pop(request.path_params["id"], None)
        if asked is not None and not asked.said.done():
            asked.said.set_result(said)
        return _json({})

    def _refused(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self.key.encode()):
            return Response("only the job that was started here comes here", 401)
        return Response(self._why_closed, 410) if self._why_closed else None


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
