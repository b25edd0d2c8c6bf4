"""The gateway as an ASGI application: who calls, in which scope, and what is said when it cannot be done.

`/v1/…`, `/openai/…`, `/api/…` serve a policy to whoever has the token; `/proxy/rollout/…` takes programs along in a
rollout. Errors are told in the caller's own dialect.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentlightning.errors import AgentLightningError, DataError, ModelError, RolloutStopped
from agentlightning.gateway.forward import Disconnected, forwarded, make_client, target
from agentlightning.gateway.passages import OpenPassage, Passages
from agentlightning.gateway.providers import ProviderName, Providers, provider_for
from agentlightning.gateway.served import AGENT_HEADER, Served
from agentlightning.interception.answering import Answer, refusal
from agentlightning.interception.dialects import DIALECTS, decode_object, dialect_of
from agentlightning.interception.scope import Scope, emit_reward, entered

_log = logging.getLogger(__name__)
_ROLLOUT = "/proxy/rollout/{rollout}/attempt/{attempt:int}/mode/{mode}"
_METHODS = ["GET", "POST", "DELETE"]


class GatewayApp:
    """Answers requests. `served` None: only rollouts are let in."""

    def __init__(self, served: Served | None, token: str, providers: Providers | None) -> None:
        self.passages = Passages()
        self._served = served
        self._token = token
        self._providers = providers or {}
        self._outward: httpx.AsyncClient | None = None
        self._inward: httpx.AsyncClient | None = None

    def asgi(self) -> Starlette:
        """The application; its lifetime is that of the connections it keeps."""
        routes = [
            Route(f"{_ROLLOUT}/reward", self.reward, methods=["POST"]),
            Route(f"{_ROLLOUT}/key/{{key}}/{{provider}}/{{path:path}}", self.in_rollout, methods=_METHODS),
            Route(f"{_ROLLOUT}/{{provider}}/{{path:path}}", self.in_rollout, methods=_METHODS),
            Route("/v1/models", self.models),
            Route("/{path:path}", self.serve, methods=_METHODS),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        async with make_client() as self._outward, make_client(reaches_out=False) as self._inward:
            yield

    async def serve(self, request: Request) -> Response:
        """A request to the served policy."""
        if self._served is None or not _is_allowed(request, self._token):
            return self._not_allowed(request, self._served is not None)
        path = request.url.path
        try:
            scope = self._served.scope(request.headers.get(AGENT_HEADER), _model(path, await request.body()))
        except DataError as error:
            return _refused(path, error, 400)
        try:
            return await self._through(request, scope, None, path, provider_for(path), self._providers)
        except RolloutStopped as stopped:
            return _refused(path, stopped, 403)

    async def models(self, request: Request) -> Response:
        """What may be asked for; the provider's own list where the policy names nobody."""
        names = self._served.models() if self._served is not None else []
        if not names or not _is_allowed(request, self._token):
            return await self.serve(request)
        cards = [{"id": name, "object": "model", "created": 0, "owned_by": "agentlightning"} for name in names]
        return _json({"object": "list", "data": cards})

    async def in_rollout(self, request: Request) -> Response:
        """A request of a program that takes part in a rollout."""
        passage = self._passage(request)
        if isinstance(passage, Response):
            return passage
        providers = next(passage.lanes[token] for token in _tokens(request) if token in passage.lanes)
        path, provider = f"/{request.path_params['path']}", request.path_params["provider"]
        agent = request.headers.get(AGENT_HEADER)
        try:
            return await self._through(request, passage.scope, agent, path, provider, providers)
        except RolloutStopped as stopped:
            passage.stopped = stopped
            return _refused(path, stopped, 403)

    async def reward(self, request: Request) -> Response:
        """What a program says of its own run: `{"value": 1.0, "reason": …, "name": …, "metric": false}`."""
        passage = self._passage(request)
        if isinstance(passage, Response):
            return passage
        try:
            given = msgspec.json.decode(await request.body(), type=_Emitted)
            with entered(passage.scope):
                emit_reward(cast(float, given.value), given.reason, name=given.name, metric=given.metric)
        except msgspec.MsgspecError as error:
            return _refused("", DataError(f"this is no reward: {error}"), 400)
        return _json({"ok": True})

    async def _through(
        self, request: Request, scope: Scope, agent: str | None, path: str, provider: str, providers: Providers
    ) -> Response:
        known = providers.get(cast(ProviderName, provider))
        url, key = target(known, path, request.url.query)
        client = self._inward if known is None else self._outward
        assert client is not None, "the application was not started"
        try:
            return await forwarded(request, client, scope, agent, url, key)
        except Disconnected:
            return Response(status_code=499)
        except ModelError as error:
            return _refused(path, error, 404)
        except httpx.HTTPError as error:
            return _refused(path, ModelError(f"{known} did not answer: {error or type(error).__name__}"), 502)
        except AgentLightningError as error:
            return _refused(path, error, None)

    def _passage(self, request: Request) -> OpenPassage | Response:
        passage = self.passages.find(request.path_params["rollout"])
        path = request.path_params.get("path", "")
        if passage is None:
            return _refused(f"/{path}", DataError("this rollout has ended, or never was"), 404)
        is_allowed = any(_is_allowed(request, token) for token in list(passage.lanes))
        return passage if is_allowed else self._not_allowed(request, True)

    def _not_allowed(self, request: Request, is_served: bool) -> Response:
        why = "send the token this gateway was started with, as the API key" if is_served else "only rollouts come here"
        return _refused(request.url.path, DataError(f"not allowed: {why}"), 401 if is_served else 404)


class _Emitted(msgspec.Struct):
    value: float | str
    reason: str | None = None
    name: str = "reward"
    metric: bool = False


def _is_allowed(request: Request, token: str) -> bool:
    given = [found.encode("utf-8", "replace") for found in _tokens(request)]
    return any(secrets.compare_digest(one, token.encode()) for one in given)


def _tokens(request: Request) -> list[str]:
    """The keys that came along, whatever way an SDK sends them."""
    headers = request.headers
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return [bearer, headers.get("x-api-key", ""), headers.get("api-key", ""), request.path_params.get("key", "")]


def _model(path: str, content: bytes) -> str:
    """The model a request asks for; nothing when it is no model call, which then is nobody's in particular."""
    dialect = dialect_of(path, content)
    if dialect is None:
        return ""
    try:
        return dialect.call(decode_object(content), "", path).model
    except DataError:  # the provider, or the responder, will say so
        return ""


def _refused(path: str, error: BaseException, status: int | None) -> Response:
    dialect = dialect_of(path) or DIALECTS[0]
    answer: Answer = refusal(dialect, error, status)
    _log.info("%s: %d %s", path, answer.status, error)
    kept = {name: value for name, value in answer.headers.items() if status != 502 or name != "x-should-retry"}
    return Response(answer.body, answer.status, kept)


def _json(value: Mapping[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
