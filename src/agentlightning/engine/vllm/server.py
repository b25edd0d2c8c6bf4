"""A vLLM server, ours or joined: it is started, watched, and started again when it dies.

A request that was under way when the server died ends with `ServerLost`; whoever asked revives the server and asks
again. Sampling has no effect but its answer, so nothing is done twice.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from agentlightning import offspring
from agentlightning.engine.vllm.plan import ServerPlan
from agentlightning.errors import MissingExtra, ModelError

_MAX_RESTARTS = 5
_MAX_UNWELL = 3
_CHECK_SECONDS = 5.0
_LOG_LINES = 15


class ServerLost(Exception):
    """The server did not answer this request; `generation` is the server that was asked."""

    def __init__(self, generation: int, why: str) -> None:
        super().__init__(why)
        self.generation = generation


class _Client(httpx.AsyncClient):
    """Its calls are ours, not an agent's: interception leaves them alone."""

    agentlightning_own = True


class Server:
    """For one event loop."""

    def __init__(self, plan: ServerPlan, *, api_key: str = "", start_timeout_seconds: float = 900) -> None:
        self.generation = 0
        """Grows with every start: what the last one was told is forgotten."""
        self.num_restarts = 0
        self.model_name = plan.model
        self.max_context_tokens: int | None = None
        self._plan = plan
        self._key = api_key or secrets.token_hex(16)
        self._start_timeout_seconds = start_timeout_seconds
        self._port = plan.port or _free_port()
        self.base_url = (plan.base_url or f"http://127.0.0.1:{self._port}/v1").rstrip("/")
        self._client = _Client(
            base_url=self.base_url.removesuffix("/v1"),
            headers={"authorization": f"Bearer {self._key}"} if api_key or not plan.base_url else {},
            timeout=httpx.Timeout(None, connect=10),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._lock = asyncio.Lock()
        self._checked, self._num_unwell = 0.0, 0

    @property
    def pid(self) -> int | None:
        """Of the process we started."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Returns when it answers. ModelError, with the end of its log, when it does not."""
        if not self._plan.base_url:
            self._spawn()
        await self._until_well()
        await self._read_models()

    async def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """The answer, whatever its status below 500. ServerLost when there is none."""
        generation = self.generation
        request = asyncio.ensure_future(self._client.post(path, json=body))
        try:
            while not (await asyncio.wait({request}, timeout=_CHECK_SECONDS))[0]:
                if await self._is_lost():
                    raise ServerLost(generation, "it stopped answering its health check")
            response = request.result()
        except httpx.TransportError as error:
            raise ServerLost(generation, str(error) or type(error).__name__) from error
        finally:
            request.cancel()
        if response.status_code >= 500:
            raise ServerLost(generation, f"it answered {response.status_code}: {response.text[:300]}")
        return response

    async def revive(self, lost: ServerLost) -> None:
        """Now it answers again, started anew if need be. ModelError when it died too often."""
        async with self._lock:
            if lost.generation != self.generation:
                return  # another request's revival has done it
            if await self._is_well():
                await asyncio.sleep(0.2)
                return
            self.num_restarts += 1
            if self.num_restarts > _MAX_RESTARTS:
                raise ModelError(
                    f"the vLLM server was lost {self.num_restarts} times, last because {lost}.{self._said()}"
                )
            if not self._plan.base_url:
                await self._end()
                self._spawn()
            await self._until_well()
            self.generation += 1
            self._num_unwell = 0

    async def close(self) -> None:
        await self._client.aclose()
        await self._end()
        self._end_at_exit()
        atexit.unregister(self._end_at_exit)

    def _spawn(self) -> None:
        arguments = self._plan.arguments(self._port)
        environment = os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_API_KEY": self._key}
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="agentlightning-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
            atexit.register(self._end_at_exit)  # engines that answer for a loaded policy are never closed
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    arguments, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise MissingExtra(
                f"the vLLM server cannot be started: {arguments[0]!r} is not a program here ({error.strerror}).\n"
                "    On a machine with a GPU:  pip install vllm  (in an environment of its own, then set "
                "engine.command to its bin/vllm), or join a running server with models.policy.base_url."
            ) from error
        offspring.keep(self._process.pid)

    async def _end(self) -> None:
        if self._process is None:
            return
        for sign in ("SIGTERM", "SIGKILL"):
            offspring.signal_group(self._process.pid, sign)
            try:
                await asyncio.to_thread(self._process.wait, 10)
                break
            except subprocess.TimeoutExpired:
                continue
        offspring.signal_group(self._process.pid)  # workers that outlived their parent
        offspring.forget(self._process.pid)
        self._process = None

    def _end_at_exit(self) -> None:
        if self._process is not None:
            offspring.signal_group(self._process.pid)
            self._process.wait()
            offspring.forget(self._process.pid)
            self._process = None
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    async def _until_well(self) -> None:
        until = time.monotonic() + self._start_timeout_seconds
        while not await self._is_well():
            if self._process is not None and self._process.poll() is not None:
                raise ModelError(f"the vLLM server ended with status {self._process.returncode}.{self._said()}")
            if time.monotonic() > until:
                raise ModelError(
                    f"no vLLM server answers at {self.base_url} after {self._start_timeout_seconds:g} seconds."
                    f"{self._said()}"
                )
            await asyncio.sleep(0.25)

    async def _is_well(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            return False
        try:
            return (await self._client.get("/health", timeout=10)).status_code == 200
        except httpx.TransportError:
            return False

    async def _is_lost(self) -> bool:
        """Asked by every waiting request; the server is asked once for all of them. One slow answer proves nothing."""
        if time.monotonic() - self._checked > _CHECK_SECONDS / 2:
            self._checked = time.monotonic()
            self._num_unwell = 0 if await self._is_well() else self._num_unwell + 1
        is_dead = self._process is not None and self._process.poll() is not None
        return is_dead or self._num_unwell >= _MAX_UNWELL

    async def _read_models(self) -> None:
        """Under which name it serves the base model, and how much it reads."""
        response = await self._client.get("/v1/models", timeout=30)
        if response.status_code in (401, 403):
            raise ModelError(f"{self.base_url} wants a key: set models.policy.api_key_env to the variable that has it.")
        bases = [m for m in response.json().get("data", []) if not m.get("parent")] if response.is_success else []
        fitting = [m for m in bases if self._plan.model in (m["id"], m.get("root"))] or bases[:1]
        if not fitting:
            raise ModelError(f"{self.base_url}/models lists no model ({response.status_code}). Is it a vLLM server?")
        self.model_name = fitting[0]["id"]
        self.max_context_tokens = fitting[0].get("max_model_len")

    def _said(self) -> str:
        if self._log is None:
            return ""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "\n    It said last:\n" + "\n".join(f"      {line}" for line in lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
