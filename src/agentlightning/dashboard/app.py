"""The dashboard's addresses: pages from `static`, what they show as JSON, and events that say when to look again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from agentlightning.dashboard import opinions, prompts, views
from agentlightning.dashboard.access import Access
from agentlightning.dashboard.catalogue import OUTSIDE, Catalogue
from agentlightning.dashboard.events import changes
from agentlightning.errors import AgentLightningError, DataError
from agentlightning.store.base import Store

STATIC = Path(__file__).parent / "static"
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
OUTSIDE_NAME = "outside"

Answer = Callable[[Request], Awaitable[Any]]


def dashboard_app(store: Store, token: str, names: frozenset[str] = LOOPBACK_NAMES) -> ASGIApp:
    """The ASGI application over an open store, which it closes when it ends.

    `names` are the host names it answers to; none given: to all.
    """
    pages = _Pages(store)

    @asynccontextmanager
    async def closing_store(_: Starlette) -> AsyncGenerator[None]:
        yield
        await store.close()

    routes = [
        Route("/api/runs", _json(pages.runs)),
        Route("/api/runs/{run}", _json(pages.run)),
        Route("/api/runs/{run}/rollouts", _json(pages.rollouts)),
        Route("/api/runs/{run}/prompts", _json(pages.prompts)),
        Route("/api/runs/{run}/prompts/{policy}", _json(pages.version)),
        Route("/api/runs/{run}/pair", _json(pages.pair)),
        Route("/api/rollouts/{rollout}", _json(pages.rollout)),
        Route("/api/feedback", _json(pages.feedback), methods=["POST"]),
        Route("/api/events", pages.events),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ]
    return Access(Starlette(routes=routes, lifespan=closing_store), token, names)


def _json(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """What it returns as JSON; an error of ours as `{"error": …}` with 400, for a page to show."""

    async def endpoint(request: Request) -> Response:
        try:
            body, status = msgspec.json.encode(await answer(request)), 200
        except AgentLightningError as error:
            body, status = msgspec.json.encode({"error": str(error)}), 400
        return Response(body, status, media_type="application/json")

    return endpoint


class _Pages:
    """Each method is one address, and gives back what JSON can be made of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalogue = Catalogue(store)

    async def runs(self, _: Request) -> Any:
        return {"store": self._store.address, **await views.runs(self._catalogue)}

    async def run(self, request: Request) -> Any:
        return await views.run(self._catalogue, _run_id(request))

    async def rollouts(self, request: Request) -> Any:
        return await views.rollouts(self._catalogue, _run_id(request), request.query_params)

    async def prompts(self, request: Request) -> Any:
        return await prompts.tree(self._store, _run_id(request))

    async def version(self, request: Request) -> Any:
        against = request.query_params.get("against", "")
        return await prompts.version(self._store, _run_id(request), request.path_params["policy"], against)

    async def pair(self, request: Request) -> Any:
        return await views.pairs(self._catalogue, _run_id(request), request.query_params.get("rater", ""))

    async def rollout(self, request: Request) -> Any:
        return await views.rollout(self._store, request.path_params["rollout"])

    async def feedback(self, request: Request) -> Any:
        """Keep a rating (`rollout`, `stars`) or a choice (`better`, `worse`), by `rater`, with a `comment`."""
        record = await opinions.record_of(self._store, await _body(request))
        await self._store.append([record])
        return {"id": record.id}

    async def events(self, _: Request) -> Response:
        return StreamingResponse(changes(self._store), media_type="text/event-stream")


def _run_id(request: Request) -> str:
    """`outside` in an address is what belongs to no run."""
    run: str = request.path_params["run"]
    return OUTSIDE if run == OUTSIDE_NAME else run


async def _body(request: Request) -> Any:
    try:
        return msgspec.json.decode(await request.body())
    except msgspec.DecodeError as error:
        raise DataError(f"this is no JSON: {error}") from error
