"""One async client for the models we call ourselves, in whichever dialect its endpoint speaks.

It retries what may pass, asks differently where the model refuses a parameter (and remembers), and turns everything
else into a ModelError that says what to do. Usable from any event loop, several at once: each gets its own connections,
which are closed when that loop shuts down.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import msgspec

from agentlightning.data.call import Message, Reply
from agentlightning.errors import DataError, ModelError
from agentlightning.interception.dialects import decode_object
from agentlightning.models.asking import Accepted, after_refusal, dialect_of, question
from agentlightning.models.endpoint import Endpoint
from agentlightning.models.refusal import error_of, is_transient, refusal, retry_after, said_by

_CONNECT_SECONDS = 10
_MAX_BACKOFF_SECONDS = 30.0
_MAX_RETRY_AFTER_SECONDS = 60.0


class OwnClient(httpx.AsyncClient):
    """An httpx client whose calls interception leaves alone: they are ours, not an agent's."""

    agentlightning_own = True


class _Lane(msgspec.Struct):
    """What one event loop uses: its connections, and its share of requests in flight."""

    client: OwnClient
    slots: asyncio.Semaphore
    lifetime: AsyncGenerator[OwnClient, None]


class ModelClient:
    """Calls one endpoint. `max_in_flight` holds per event loop; `on_attempt` is called with 1, 2, … right before each
    send, and what it raises (a spent budget) goes to the caller, unsent.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_in_flight: int = 8,
        max_retries: int = 5,
        timeout_seconds: float = 120,
        backoff_seconds: float = 0.5,
        on_attempt: Callable[[int], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._max_in_flight = max_in_flight
        self._max_retries = max_retries
        self._timeout_seconds = timeout_seconds
        self._backoff_seconds = backoff_seconds
        self._on_attempt = on_attempt
        self._accepted = Accepted()
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    async def complete(
        self,
        messages: list[Message],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> Reply:
        """The model's answer, with usage and finish reason as the provider gave them. Raises ModelError.

        A wish the dialect has no word for (a seed, in Messages and Responses) is not sent.
        """
        wishes = {
            "temperature": self.endpoint.temperature if temperature is None else temperature,
            "max_tokens": self.endpoint.max_tokens if max_tokens is None else max_tokens,
            "seed": self.endpoint.seed if seed is None else seed,
        }
        accepted = self._accepted
        while True:  # ends: each round refuses one more of the few wishes there are
            body = question(self.endpoint, messages, wishes, accepted)
            response = await self._send(body)
            if response.is_success:
                self._accepted = accepted
                return self._reply(response)
            other = self._otherwise(accepted, body, response)
            if other is None:
                raise refusal(self.endpoint, response.status_code, response.content)
            accepted = other

    async def aclose(self) -> None:
        """Close every loop's connections. Calling again, or using the client afterwards, is fine."""
        for loop, lane in list(self._lanes.items()):
            if loop is asyncio.get_running_loop():
                await lane.lifetime.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(lane.lifetime.aclose(), loop))

    def _otherwise(self, accepted: Accepted, body: dict[str, Any], response: httpx.Response) -> Accepted | None:
        """Another way of asking, should the refusal be about one of our wishes."""
        if response.status_code not in (400, 422):
            return None
        text = response.content.decode(errors="replace")
        return after_refusal(self.endpoint, accepted, body, error_of(response.content), text)

    async def _send(self, body: dict[str, Any]) -> httpx.Response:
        """A response that is final: a success, or a refusal that waiting will not change."""
        lane = await self._lane()
        content = msgspec.json.encode(body)
        for attempt in range(1, self._max_retries + 2):
            is_last = attempt > self._max_retries
            try:
                response = await self._attempt(lane, content, attempt)
            except (httpx.RequestError, TimeoutError) as error:
                if is_last:
                    raise self._unreachable(error) from error
                asked = None
            else:
                if is_last or not is_transient(response.status_code, response.content):
                    return response
                asked = retry_after(response.headers)
            await asyncio.sleep(self._pause(attempt, asked))
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, lane: _Lane, content: bytes, attempt: int) -> httpx.Response:
        async with lane.slots:
            if self._on_attempt is not None:
                self._on_attempt(attempt)
            async with asyncio.timeout(self._timeout_seconds):  # httpx's own limits are per read, not for the whole
                return await lane.client.post(self.endpoint.url, content=content)

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt: what the server asked for, else doubling with jitter."""
        if asked is not None:
            return min(asked, _MAX_RETRY_AFTER_SECONDS)
        return min(self._backoff_seconds * 2 ** (attempt - 1), _MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)

    async def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        if loop not in self._lanes:
            lifetime = self._lifetime(loop)
            client = await anext(lifetime)  # runs to its yield without suspending, so no one comes in between
            self._lanes[loop] = _Lane(client, asyncio.Semaphore(self._max_in_flight), lifetime)
        return self._lanes[loop]

    async def _lifetime(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[OwnClient, None]:
        """Connections that live as long as their loop: asyncio closes open generators when it shuts a loop down."""
        headers = {"content-type": "application/json", **self.endpoint.headers}
        timeout = httpx.Timeout(self._timeout_seconds, connect=min(_CONNECT_SECONDS, self._timeout_seconds))
        client = OwnClient(headers=headers, timeout=timeout)
        try:
            yield client
        finally:
            self._lanes.pop(loop, None)
            await client.aclose()

    def _reply(self, response: httpx.Response) -> Reply:
        dialect = dialect_of(self.endpoint)
        try:
            body = decode_object(response.content)
            if (problem := dialect.failure(body)) is not None:
                raise DataError(problem)
            return dialect.reply(body)
        except DataError as error:
            raise self._garbage(response.content) from error

    def _garbage(self, body: bytes) -> ModelError:
        name, path = dialect_of(self.endpoint).name, self.endpoint.posted_to
        return ModelError(
            f"{self.endpoint.address}: this is no answer as {path} gives them: {said_by(self.endpoint, body)}\n"
            f"    Is the dialect {name!r} spoken there? Set this model's dialect, or its base_url (up to {path})."
        )

    def _unreachable(self, error: Exception) -> ModelError:
        where, attempts = self.endpoint.address, f"{self._max_retries + 1} attempts"
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return ModelError(
                f"nothing listens at {where} ({attempts}: {error or type(error).__name__}).\n"
                "    Start it, check the network, or set base_url for this model (models.optimizer.base_url)."
            )
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return ModelError(
                f"{where} did not answer within {self._timeout_seconds:g} seconds ({attempts}, "
                f"model {self.endpoint.model!r}).\n    Try a faster model, or ask for fewer tokens (max_tokens)."
            )
        return ModelError(
            f"the exchange with {where} broke off ({attempts}: {error or type(error).__name__}).\n"
            "    Try again later, or name another model or base_url."
        )
