"""The models we call ourselves in a run: the optimiser that writes proposals and the judge that scores answers.

Where neither is configured, both are the model, key and endpoint the agent itself was seen using. Every answer is a
record; on resume, a question asked before is answered from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.record import make_record
from agentlightning.engine.base import Engine
from agentlightning.errors import ConfigError, ModelError
from agentlightning.interception.endpoint import SeenEndpoint
from agentlightning.models.client import ModelClient
from agentlightning.models.endpoint import Endpoint
from agentlightning.store.base import Store
from agentlightning.trainer.budget import Budget, spent_from
from agentlightning.trainer.config_sections import ModelSection
from agentlightning.trainer.interrupt import Interrupt

OwnRole = Literal["optimizer", "judge"]
OWN_ROLES: tuple[OwnRole, ...] = ("optimizer", "judge")
Look = Callable[[], Coroutine[Any, Any, SeenEndpoint | None]]


class OwnModels:
    """One client per role, made when first needed. `specs` as in the config's `models`."""

    def __init__(
        self,
        specs: Mapping[str, Any],
        *,
        run_id: str,
        store: Store,
        budget: Budget,
        max_in_flight: int,
        engine: Engine | None = None,
        on_answer: Callable[[OwnRole, float | None], None] = lambda role, usd: None,
        interrupt: Interrupt | None = None,
    ) -> None:
        """`engine` answers as the optimiser where no endpoint is known, because it is the agent's own model then.
        `on_answer` hears of each answer and its price."""
        self.seen: SeenEndpoint | None = None
        """Set as soon as the agent's own endpoint is known."""
        self._newest: SeenEndpoint | None = None
        self._look: Look | None = None
        self._looking: asyncio.Future[SeenEndpoint | None] | None = None
        self._endpoints = {role: Endpoint.from_spec(specs[role]) for role in OWN_ROLES if specs.get(role)}
        self._clients: dict[str, ModelClient] = {}
        self._put_away: list[ModelClient] = []
        self._answers: dict[str, Reply] = {}
        self._recorded: dict[str, Reply] = {}
        self._run_id = run_id
        self._store = store
        self._budget = budget
        self._max_in_flight = max_in_flight
        self._engine = engine
        self._on_answer = on_answer
        self._interrupt = interrupt or Interrupt()
        self._num_asking = 0
        self._is_quiet = asyncio.Event()

    def saw(self, endpoint: SeenEndpoint) -> None:
        """The agent called a model with success just now. Its key may be a new one."""
        self._newest = endpoint

    def endpoint(self, role: OwnRole) -> Endpoint | None:
        """Where a role's calls go; None while that is not known. A lone configured one serves both roles."""
        if role in self._endpoints:
            return self._endpoints[role]
        if self.seen is not None:
            return endpoint_of(self.seen)
        return next(iter(self._endpoints.values()), None)

    def describe(self, role: OwnRole) -> str:
        """Which model, in words."""
        origin = "configured" if role in self._endpoints else "the agent's own"
        endpoint = self._endpoints.get(role)
        if endpoint is None and self.seen is None and self._engine is not None:  # the agent's calls go to the engine
            endpoint, origin = self.endpoint(role), "configured for the other role"
            if endpoint is None and role == "optimizer":
                return f"{self._engine.model} (the model that is trained, as it was)"
        elif endpoint is None and self.seen is not None:
            endpoint = endpoint_of(self.seen)
        if endpoint is None:
            return "not known yet: the agent's own model, once it is seen"
        return f"{endpoint.model} at {endpoint.address} ({origin})"

    def remember(self, answers: Mapping[str, Reply], look: Look) -> None:
        """Answers an earlier, interrupted part of this run was given; used, and charged, when asked for again.

        Judges' are charged now: a rollout that was judged is not judged again. `look` finds the agent's endpoint for
        the first question that is not among them.
        """
        self._recorded.update(answers)
        self._look = look
        for key in [key for key in answers if key.startswith("judge-")]:
            self._replay("judge", key)

    def can_ask(self, role: OwnRole) -> bool:
        """Is there, or can there be found, somebody to ask?"""
        return self.endpoint(role) is not None or self._look is not None

    async def find(self, role: OwnRole | None = None) -> None:
        """Look for the agent's endpoint where it is not known and `role` (any use, when None) needs it."""
        known = self.seen if role is None else self.endpoint(role)
        if known is None and self._look is not None:
            self._looking = self._looking or asyncio.ensure_future(self._look())
            self.seen = await self._looking

    async def complete(
        self,
        messages: list[Message],
        *,
        role: OwnRole,
        key: str,
        seed: int | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        """The answer on record under `key`, else a new one. Raises ModelError, BudgetExhausted, RunInterrupted."""
        budget = spent_from(self._budget)
        if key in self._answers:
            return self._answers[key]
        if key in self._recorded:
            return self._replay(role, key)
        self._interrupt.check()
        with self._asked():
            try:
                reply = await self._ask(role, messages, temperature=temperature, max_tokens=max_tokens, seed=seed)
            except ModelError:
                budget.ledger.add_failed(role)
                raise
            self._on_answer(role, budget.ledger.add(role, reply.model, reply.usage))
            self._answers[key] = reply
            body = {"role": role, "messages": messages, "reply": msgspec.to_builtins(reply)}
            await self._store.append([make_record("completion", key, body, run=self._run_id)])
        return reply

    async def settled(self) -> None:
        """Wait for the answers that are under way."""
        while self._num_asking:
            self._is_quiet.clear()
            await self._is_quiet.wait()

    def _replay(self, role: OwnRole, key: str) -> Reply:
        """The answer on record, charged as it was then."""
        budget, recorded = spent_from(self._budget), self._recorded.pop(key)
        budget.replayed(role, 1)
        self._on_answer(role, budget.ledger.add(role, recorded.model, recorded.usage))
        self._answers[key] = recorded
        return recorded

    @contextmanager
    def _asked(self) -> Generator[None]:
        self._num_asking += 1
        try:
            yield
        finally:
            self._num_asking -= 1
            self._is_quiet.set()

    async def close(self) -> None:
        for client in (*self._clients.values(), *self._put_away):
            await client.aclose()

    async def _ask(self, role: OwnRole, messages: list[Message], **wishes: Any) -> Reply:
        await self.find(role)
        if role == "optimizer" and self._engine is not None and self.endpoint(role) is None:
            spent_from(self._budget).admit(role)
            params = {key: value for key, value in wishes.items() if value is not None}
            call = Call(agent=role, model=self._engine.model, messages=messages, params=params)
            reply = await asyncio.wrap_future(self._engine.sample(call))
            return msgspec.structs.replace(reply, model=self._engine.model)
        client = self._client(role)
        try:
            reply = await client.complete(messages, **wishes)
        except ModelError:
            if not self._has_renewed(role, client):
                raise
            reply = await self._client(role).complete(messages, **wishes)
        return reply if reply.model else msgspec.structs.replace(reply, model=client.endpoint.model)

    def _has_renewed(self, role: OwnRole, failed: ModelClient) -> bool:
        """Does the agent by now show another key than the one that failed? Then the next client has that."""
        if self._clients.get(role) is not failed:  # somebody else noticed
            return True
        seen, newest = self.seen, self._newest
        if role in self._endpoints or seen is None or newest is None or newest.base_url != seen.base_url:
            return False
        if newest.headers == seen.headers:
            return False
        self.seen = msgspec.structs.replace(seen, headers=newest.headers)
        self._put_away += self._clients.values()
        self._clients.clear()
        return True

    def _client(self, role: OwnRole) -> ModelClient:
        if role not in self._clients:
            endpoint = self.endpoint(role)
            if endpoint is None:
                raise ConfigError(
                    f"there is no {role} model: the agent was not seen calling a model that could serve as one. "
                    f"Set models.{role}, for example models={{'{role}': 'gpt-4o-mini'}}."
                )
            self._clients[role] = ModelClient(
                endpoint, max_in_flight=self._max_in_flight, on_attempt=lambda _: spent_from(self._budget).admit(role)
            )
        return self._clients[role]


def address_of(model: ModelSection) -> str:
    """Where a configured model is asked. ConfigError when that, or its key, cannot be told."""
    return Endpoint.from_spec(model.spec()).address


def endpoint_of(seen: SeenEndpoint) -> Endpoint:
    """The agent's own model, asked by us: in the dialect it was seen speaking, which is sure to be understood there."""
    return Endpoint(
        model=seen.model,
        base_url=seen.base_url,
        headers=seen.headers,
        query=seen.query,
        dialect="ollama" if seen.dialect == "ollama-generate" else seen.dialect,
    )
