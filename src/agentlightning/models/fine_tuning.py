"""A provider's fine-tuning jobs (OpenAI's files and fine_tuning/jobs, Azure's too) over plain HTTP.

A job costs money when it is created, so creating is the one request that is never simply sent again: jobs are looked up
by their training file first. Everything else is repeated until it succeeds or is refused for good.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from agentlightning.errors import ModelError
from agentlightning.models.client import OwnClient
from agentlightning.models.endpoint import Endpoint
from agentlightning.models.refusal import is_transient, refusal, retry_after

TRAINING_PRICES = {
    "gpt-4.1": 25.0,
    "gpt-4.1-mini": 5.0,
    "gpt-4.1-nano": 1.5,
    "gpt-4o": 25.0,
    "gpt-4o-mini": 3.0,
    "gpt-3.5-turbo": 8.0,
}
"""USD per million trained tokens: OpenAI's list prices of supervised tuning in 2025; a snapshot costs as its model.

Prices change: `usd_per_million_tokens` of the algorithm's params says today's."""
_MAX_RETRIES = 8
_MAX_PAUSE_SECONDS = 60.0


class Job(msgspec.Struct, frozen=True):
    """What is asked of a job's state; the rest of it is the provider's."""

    id: str
    status: str
    training_file: str = ""
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: Any = None

    @property
    def is_over(self) -> bool:
        return self.status in ("succeeded", "failed", "cancelled")

    @property
    def reason(self) -> str:
        """Why it failed, in the provider's words."""
        told: Any = self.error
        return str(told.get("message") or told) if isinstance(told, dict) else str(told or "no reason was given")


class FineTuning:
    """The jobs of one endpoint. For one event loop; close it."""

    def __init__(self, endpoint: Endpoint, *, pause_seconds: float = 1.0) -> None:
        self.endpoint = endpoint
        self._pause_seconds = pause_seconds
        self._client = OwnClient(headers=endpoint.headers, timeout=httpx.Timeout(300, connect=10))

    async def close(self) -> None:
        await self._client.aclose()

    async def upload(self, rows: Sequence[Mapping[str, Any]], name: str) -> str:
        """The id of a file with these examples. Not billed."""
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        given = {"file": (name, content, "application/jsonl")}
        answer = await self._send("POST", "/files", data={"purpose": "fine-tune"}, files=given)
        return str(answer["id"])

    async def job(self, id: str) -> Job:
        return msgspec.convert(await self._send("GET", f"/fine_tuning/jobs/{id}"), Job)

    async def of_file(self, training_file: str) -> Job | None:
        """The job that was created for a training file, if there is one."""
        after: dict[str, str] = {}
        while True:
            page = await self._send("GET", "/fine_tuning/jobs", params={"limit": "100", **after})
            jobs = [msgspec.convert(job, Job) for job in page.get("data") or []]
            for job in jobs:
                if job.training_file == training_file:
                    return job
            if not page.get("has_more") or not jobs:
                return None
            after = {"after": jobs[-1].id}

    async def create(self, body: Mapping[str, Any]) -> Job:
        """A job for a training file: the one it has, or a new one. Safe to call again after any interruption."""
        for attempt in range(_MAX_RETRIES):
            if (known := await self.of_file(body["training_file"])) is not None:
                return known
            try:
                response = await self._client.post(self._url("/fine_tuning/jobs"), json=dict(body))
            except httpx.RequestError:
                response = None  # it may have arrived: look again
            if response is not None and response.is_success:
                return msgspec.convert(response.json(), Job)
            if response is not None and not self._may_pass(response):
                raise refusal(self.endpoint, response.status_code, response.content)
            await self._pause(attempt, response)
        raise ModelError(f"{self.endpoint.address} did not take the fine-tuning job in {_MAX_RETRIES} attempts.")

    async def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        for attempt in range(_MAX_RETRIES):
            try:
                response = await self._client.request(method, self._url(path), **options)
            except httpx.RequestError as error:
                if attempt == _MAX_RETRIES - 1:
                    raise ModelError(f"{self.endpoint.address} cannot be reached for fine-tuning: {error!r}") from error
                response = None
            if response is not None and response.is_success:
                return response.json()
            if response is not None and (attempt == _MAX_RETRIES - 1 or not self._may_pass(response)):
                raise refusal(self.endpoint, response.status_code, response.content)
            await self._pause(attempt, response)
        raise AssertionError("the last attempt returns or raises")

    def _may_pass(self, response: httpx.Response) -> bool:
        return is_transient(response.status_code, response.content)

    async def _pause(self, attempt: int, response: httpx.Response | None) -> None:
        asked = retry_after(response.headers) if response is not None else None
        pause = self._pause_seconds * 2**attempt if asked is None else asked
        await asyncio.sleep(min(pause, _MAX_PAUSE_SECONDS))

    def _url(self, path: str) -> str:
        """Azure's chat address names a deployment; its jobs lie beside the deployments."""
        base = re.sub(r"/deployments/[^/]+$", "", self.endpoint.base_url.rstrip("/"))
        query = f"?{self.endpoint.query}" if self.endpoint.query else ""
        return f"{base}{path}{query}"


def training_price(model: str) -> float | None:
    """USD per million trained tokens; None when it is not known."""
    name = re.sub(r"-\d{4}-\d{2}-\d{2}$|-\d{4}$", "", model)
    return TRAINING_PRICES.get(name)


def estimate_tokens(rows: Sequence[Mapping[str, Any]]) -> int:
    """About how many tokens the examples have: four bytes each, and a few for every message's frame."""
    sizes = [len(json.dumps(row, ensure_ascii=False).encode()) / 4 for row in rows]
    return round(sum(sizes))
