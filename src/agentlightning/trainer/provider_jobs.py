"""Fine-tuning at a provider, as a run asks for it: never paid twice, whatever interrupts it.

A job is known by what it is asked (endpoint, model, examples, settings). Each step is a record in the store, so the
same question, from the same run resumed or from another one, finds the job that is there: it is waited for, or its
model is used. Money is checked before the one request that costs some.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agentlightning.algorithms.base import TuningSettings
from agentlightning.data.record import make_record
from agentlightning.errors import BudgetExhausted, ConfigError, ModelError
from agentlightning.models.endpoint import Endpoint
from agentlightning.models.fine_tuning import FineTuning, Job, estimate_tokens, training_price
from agentlightning.store.base import Store
from agentlightning.trainer.budget import Budget, spent_from
from agentlightning.trainer.own_models import OwnModels

Say = Callable[[str], None]
_DEFAULT_EPOCHS = 3
"""What an estimate assumes where the provider chooses."""


class ProviderJobs:
    """The fine-tuning jobs of a run."""

    def __init__(self, *, run_id: str, store: Store, budget: Budget, models: OwnModels) -> None:
        self._run_id = run_id
        self._store = store
        self._budget = budget
        self._models = models

    async def tuned(
        self,
        rows: Sequence[Mapping[str, Any]],
        held_back: Sequence[Mapping[str, Any]],
        settings: TuningSettings,
        say: Say,
    ) -> str:
        """The name of a model trained on the rows. ModelError when the job fails, BudgetExhausted when too dear."""
        await self._models.find()
        endpoint = self._endpoint(settings)
        key = _key(endpoint, rows, held_back, settings)
        state = await self._recorded(key)
        if not state.get("model"):
            jobs = FineTuning(endpoint, pause_seconds=min(1.0, settings.poll_seconds))
            try:
                state = await self._trained(jobs, key, state, rows, held_back, settings, say)
            finally:
                await jobs.close()
        else:
            say(f"the provider has trained {state['model']} on these examples before; nothing is paid again")
        return self._callable_name(endpoint, state["model"], settings)

    async def _trained(
        self,
        jobs: FineTuning,
        key: str,
        state: dict[str, Any],
        rows: Sequence[Mapping[str, Any]],
        held_back: Sequence[Mapping[str, Any]],
        settings: TuningSettings,
        say: Say,
    ) -> dict[str, Any]:
        model = jobs.endpoint.model
        if "file" not in state:
            say(self._affordable(rows, model, settings))
            state = {"file": await jobs.upload(rows, "training.jsonl")}
            if held_back:
                state["validation_file"] = await jobs.upload(held_back, "validation.jsonl")
            await self._record(key, state)
        if "job" not in state:
            job = await jobs.create(_body(model, state, settings))
            state = {**state, "job": job.id}
            await self._record(key, state)
            say(f"fine-tuning job {job.id} of {model} has begun")
        job = await self._ended(jobs, state["job"], settings, say)
        if job.status != "succeeded" or not job.fine_tuned_model:
            await self._record(key, {})  # asking again begins anew
            raise ModelError(f"fine-tuning job {job.id} of {model} {job.status}: {job.reason}")
        price = settings.usd_per_million_tokens or training_price(model)
        usd = None if price is None or job.trained_tokens is None else price * job.trained_tokens / 1e6
        spent_from(self._budget).ledger.add_job(usd)
        state = {**state, "model": job.fine_tuned_model, "trained_tokens": job.trained_tokens, "usd": usd}
        await self._record(key, state)
        cost = "its price is not known" if usd is None else f"{usd:.2f} USD"
        say(f"trained {job.fine_tuned_model} on {job.trained_tokens} tokens ({cost})")
        return state

    async def _ended(self, jobs: FineTuning, id: str, settings: TuningSettings, say: Say) -> Job:
        """Jobs take minutes to days; the provider may be away for a while."""
        said = ""
        pause = settings.poll_seconds
        while True:
            job = await jobs.job(id)
            if job.status != said:
                said, pause = job.status, settings.poll_seconds
                say(f"job {id}: {job.status}")
            if job.is_over:
                return job
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, settings.poll_seconds * 6)

    def _affordable(self, rows: Sequence[Mapping[str, Any]], model: str, settings: TuningSettings) -> str:
        """What it will cost, in words."""
        budget = spent_from(self._budget)
        budget.check()
        price = settings.usd_per_million_tokens or training_price(model)
        num_tokens = estimate_tokens(rows) * (settings.epochs or _DEFAULT_EPOCHS)
        left = _usd_left(budget)
        if price is None and left is not None:
            raise ConfigError(
                f"what it costs to train {model} is not known, and the budget of usd is capped. Set "
                "usd_per_million_tokens (of the algorithm's params) to the provider's price for training."
            )
        about = f"{len(rows)} examples, about {num_tokens:,} tokens to train"
        if price is None:
            return f"{about}; the price for training {model} is not known"
        usd = price * num_tokens / 1e6
        if left is not None and usd > left:
            raise BudgetExhausted(f"training {model} would cost about {usd:.2f} USD, and {left:.2f} USD are left")
        return f"{about}, about {usd:.2f} USD"

    def _endpoint(self, settings: TuningSettings) -> Endpoint:
        """Where the agent's own model is called, unless said otherwise."""
        given = {"model": settings.model} if isinstance(settings.model, str) else dict(settings.model or {})
        if set(given) - {"model"}:
            return Endpoint.from_spec(given)
        seen = self._models.seen
        if seen is None:
            raise ConfigError(
                "the agent was not seen calling a provider. Set model: {model: …, base_url: …} in params."
            )
        if seen.dialect not in ("chat", "responses"):
            raise ConfigError(
                f"the agent was seen calling {seen.model} at {seen.base_url}, which is not OpenAI's API and so has no "
                "fine-tuning jobs. Set model: {model: …, base_url: …} in params."
            )
        model = given.get("model") or seen.model
        return Endpoint(model=model, base_url=seen.base_url, headers=seen.headers, query=seen.query)

    def _callable_name(self, endpoint: Endpoint, model: str, settings: TuningSettings) -> str:
        """On Azure a model is called by the name of its deployment, which its owner makes."""
        if not endpoint.query or settings.deployment:
            return settings.deployment or model
        raise ModelError(
            f"the job is done and its model is {model}, which Azure answers with only once it is deployed.\n"
            "    Deploy it (portal, or az cognitiveservices account deployment create), set deployment in the "
            "algorithm's params to that name, and train again: nothing is trained twice."
        )

    async def _recorded(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        async for stored in self._store.read("checkpoint", {"id": key}):
            found = stored.record.body["state"]
        return found

    async def _record(self, key: str, state: Mapping[str, Any]) -> None:
        await self._store.append([make_record("checkpoint", key, {"state": dict(state)}, run=self._run_id)])


def _usd_left(budget: Budget | None) -> float | None:
    """By the caps of this budget and of those it is a part of; None without a cap."""
    left = list[float]()
    while budget is not None:
        if budget.limits.usd is not None:
            left.append(budget.limits.usd - (budget.ledger.snapshot().usd or 0.0))
        budget = budget.parent
    return min(left, default=None)


def _key(endpoint: Endpoint, rows: Any, held_back: Any, settings: TuningSettings) -> str:
    asked = [endpoint.address, endpoint.model, rows, held_back, settings.hyperparameters(), settings.suffix]
    return f"fine-tune.{hashlib.sha256(msgspec.json.encode(asked, order='sorted')).hexdigest()[:24]}"


def _body(model: str, state: Mapping[str, Any], settings: TuningSettings) -> dict[str, Any]:
    supervised = {"hyperparameters": settings.hyperparameters()} if settings.hyperparameters() else {}
    optional = {"validation_file": state.get("validation_file"), "suffix": settings.suffix, "seed": settings.seed}
    body = {"model": model, "training_file": state["file"], "method": {"type": "supervised", "supervised": supervised}}
    return body | {name: value for name, value in optional.items() if value is not None}
