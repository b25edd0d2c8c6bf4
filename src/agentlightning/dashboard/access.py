"""Who may look: whoever has the token. The address printed at the start carries it once and leaves a cookie behind.

A page of another site cannot read or write here: the cookie is sent to our own pages only, writing takes a JSON body,
and a name that merely resolves to this machine is not answered.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlencode

from starlette.datastructures import Headers, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Access:
    """Lets requests with the token through to `app`, and puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp, token: str, names: frozenset[str]) -> None:
        self._app, self._token, self._names = app, token, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *known]
            await send(message)

        answer: ASGIApp = self._refusal_or_welcome(scope) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal_or_welcome(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._names and _name(headers.get("host", "")) not in self._names:
            return PlainTextResponse("this dashboard is not served under that name\n", 421)
        query = QueryParams(scope["query_string"])
        if self._is_token(query.get("token", "")):
            return self._welcome(scope, query)
        if self._is_token(self._carried(scope, headers)):
            if scope["method"] == "POST" and not headers.get("content-type", "").startswith("application/json"):
                return PlainTextResponse("send JSON, with its content type\n", 415)
            return None
        return PlainTextResponse(
            "open the address that `agentlightning dashboard` printed; it carries the token\n", 401
        )

    def _welcome(self, scope: Scope, query: QueryParams) -> Response:
        """On to the same page, the token out of the address bar and in a cookie until the browser is closed."""
        rest = urlencode([(name, value) for name, value in query.multi_items() if name != "token"])
        answer = RedirectResponse(f"{scope['path']}?{rest}" if rest else scope["path"], 303)
        answer.set_cookie(_cookie(scope), self._token, httponly=True, samesite="strict")
        return answer

    def _carried(self, scope: Scope, headers: Headers) -> str:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return value.strip()
        return cookie_parser(headers.get("cookie", "")).get(_cookie(scope), "")

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


def _cookie(scope: Scope) -> str:
    """Cookies do not know ports: two dashboards on one machine must not take each other's."""
    return f"agentlightning_{scope['server'][1]}"


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
