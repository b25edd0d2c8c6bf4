"""What is asked of vLLM's `/v1/completions` for a row, and how its answer becomes the row's tokens.

Prompts go as token ids, so history is never tokenised twice. When an answer ends is decided by the row, token by token,
exactly as in the torch engine; the server is only told enough not to run on.
"""

from __future__ import annotations

from typing import Any

from agentlightning.engine.torch.row import Row
from agentlightning.errors import ModelError


def request_for(row: Row, model: str) -> dict[str, Any]:
    """The body. Every sampling parameter is said, so that no default of the server counts."""
    return {
        "model": model,
        "prompt": row.ids[: row.num_prompt],
        "max_tokens": row.max_length - row.num_prompt,
        "temperature": row.temperature,
        "top_p": row.top_p,
        "top_k": row.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": row.seed,
        "stop": list(row.stops),
        "stop_token_ids": sorted(row.ends),
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def take(row: Row, answer: dict[str, Any]) -> None:
    """Put the answer's tokens into the row. ModelError when ids or logprobs are missing."""
    choice = answer["choices"][0]
    ids: list[int] | None = choice.get("token_ids")
    logprobs: list[float | None] | None = (choice.get("logprobs") or {}).get("token_logprobs")
    if not ids or logprobs is None or len(logprobs) != len(ids) or None in logprobs:
        raise ModelError(
            "the vLLM server answered without the ids and logprobs of its tokens, so nothing can be learned from it. "
            "They are given by vLLM 0.10.2 and later."
        )
    details: dict[str, Any] = (answer.get("usage") or {}).get("prompt_tokens_details") or {}
    row.num_cached_tokens = int(details.get("cached_tokens") or 0)
    for id, logprob in zip(ids, logprobs, strict=True):
        if row.add(id, float(logprob or 0.0)):
            return
    row.finish_reason = str(choice.get("finish_reason") or "length")
