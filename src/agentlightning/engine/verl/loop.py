"""Runs inside verl's workers: hands each rollout back to the process that started the job, and answers its model calls.

Of Agent Lightning only this file and the two beside it (`child`, `merge`) are imported there, and of its packages only
httpx. verl builds one `AgentLoop` for each rollout, from the file `agent_loop.yaml` that the job was started with.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import httpx

_voices: dict[tuple[str, int], _Voice] = {}


class AgentLoop:
    """What verl's `AgentLoopWorker` asks to run one rollout."""

    def __init__(self, *, desk: str, key_file: str, server_manager: Any, **_: Any) -> None:
        """`desk`: where rollouts are asked for; the key to it lies in a file, because verl prints its settings."""
        self._server = server_manager
        self._desk = desk
        self._key_file = key_file

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[Any]:
        """The rollout as verl's `AgentLoopOutput`s, one for each context; none when nothing can be learned from it.

        How answers are sampled is said by the agent's calls, so verl's own sampling parameters are not used.
        """
        about, step = row["extra_info"], int(row["global_steps"])
        is_validation = about["split"] == "validation"
        # verl samples before it learns: in step 1 the weights have learned nothing yet. It validates afterwards.
        wanted = {"task": about["task"], "num_updates": step - (not is_validation), "is_validation": is_validation}
        voice = _voice(self._desk, self._key_file, self._server)
        voice.num_rollouts += 1
        voice.begin()
        try:
            played = await voice.post("/rollouts", wanted)
        finally:
            voice.num_rollouts -= 1
        return outputs_of(played, num_updates=wanted["num_updates"])


class _Voice:
    """One for each worker: it asks for calls as long as a rollout of this worker is under way."""

    def __init__(self, desk: str, key: str, server: Any) -> None:
        self.num_rollouts = 0
        self._server = server
        self._client = httpx.AsyncClient(
            base_url=desk,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(None, connect=30),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )
        self._speaking: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Ask for calls, unless that goes on already."""
        if self._speaking is None or self._speaking.done():
            self._speaking = asyncio.create_task(self._speak())

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = await self._client.post(path, json=body)
        if response.status_code != 200:
            raise RuntimeError(f"Agent Lightning refused {path} ({response.status_code}): {response.text[:1000]}")
        return response.json()

    async def _speak(self) -> None:
        """Never cancelled while it asks: a call that was handed out must be answered."""
        while self.num_rollouts:
            if call := await self.post("/calls/next", {}):
                answer = asyncio.create_task(self._answer(call))
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)

    async def _answer(self, call: dict[str, Any]) -> None:
        try:
            drawn = await self._server.generate(
                request_id=call["rollout"],
                prompt_ids=call["prompt_ids"],
                sampling_params=call["sampling"] | {"logprobs": True, "repetition_penalty": 1.0, "ignore_eos": True},
            )
            said = {"token_ids": list(drawn.token_ids), "logprobs": [float(value) for value in drawn.log_probs or ()]}
        except Exception as error:  # noqa: BLE001 - told to the rollout that waits for the answer
            said = {"error": f"{type(error).__name__}: {error}"}
        await self.post(f"/calls/{call['id']}", said)


def _voice(desk: str, key_file: str, server: Any) -> _Voice:
    place = (desk, id(asyncio.get_running_loop()))
    if place not in _voices:
        _voices[place] = _Voice(desk, Path(key_file).read_text(encoding="utf-8").strip(), server)
    return _voices[place]


def outputs_of(played: dict[str, Any], *, num_updates: int) -> list[Any]:
    """verl's own rows. A rollout that nobody judged has none: it counts for nothing, and never as a zero."""
    if played.get("reward") is None:
        return []
    made = importlib.import_module("verl.experimental.agent_loop.agent_loop")
    return [
        made.AgentLoopOutput(
            prompt_ids=sample["prompt_ids"],
            response_ids=sample["completion_ids"],
            response_mask=sample["mask"],
            response_logprobs=sample["logprobs"],
            reward_score=float(played["reward"]),
            num_turns=int(played.get("num_turns", 0)),
            metrics=made.AgentLoopMetrics(),
            extra_fields={"reward_extra_info": {}, "min_global_steps": num_updates, "max_global_steps": num_updates},
        )
        for sample in played["samples"]
    ]
