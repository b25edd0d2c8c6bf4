"""A server with vLLM's face and a tiny model's brain: what it is asked is checked against vLLM's published request
shapes (0.10.2 to 0.33: field names and types, unknown ones refused), and its ids and logprobs are the model's own.

Run as `vllm_made_here.py serve MODEL --flags…`; unknown flags are refused. For tests: `POST /test/hold` lets no answer
out until the server ends; `GET /test/seen` tells which models were asked for and loaded.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from typing import Annotated, Any

import torch
import uvicorn
from peft import PeftModel
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
_INT64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CompletionRequest(Shape):
    model: str | None = None
    prompt: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    max_tokens: int | None = 16
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: _INT64 | None = None
    n: int = 1
    stop: str | list[str] | None = []
    stop_token_ids: list[int] | None = []
    ignore_eos: bool = False
    logprobs: int | None = Field(None, ge=-1)
    return_token_ids: bool | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


class LoadLoRA(Shape):
    lora_name: str
    lora_path: str
    load_inplace: bool = False


class UnloadLoRA(Shape):
    lora_name: str
    lora_int_id: int | None = None


class Brain:
    """The model, its adapters, and what was asked of it. One thing at a time."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.base: Any = AutoModelForCausalLM.from_pretrained(flags.model, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(flags.model)
        self.adapters: dict[str, str] = {}
        self.asked: list[str] = []
        self.unloaded: list[str] = []
        self.most_loaded = 0
        self.lock = threading.Lock()
        self.is_held = False

    def knows(self, name: str | None) -> bool:
        return name == (self.flags.served_model_name or self.flags.model) or name in self.adapters

    def load(self, asked: LoadLoRA) -> None:
        with self.lock:
            if isinstance(self.base, PeftModel):
                self.base.load_adapter(asked.lora_path, adapter_name=_key(asked.lora_name))
            else:
                self.base = PeftModel.from_pretrained(
                    self.base, asked.lora_path, adapter_name=_key(asked.lora_name)
                ).eval()
            rank = self.base.peft_config[_key(asked.lora_name)].r
            if rank > self.flags.max_lora_rank:
                raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank {self.flags.max_lora_rank}.")
            self.adapters[asked.lora_name] = asked.lora_path
            self.most_loaded = max(self.most_loaded, len(self.adapters))

    @torch.inference_mode()
    def complete(self, asked: CompletionRequest) -> dict[str, Any]:
        with self.lock:
            self.asked.append(str(asked.model))
            logits_of = self._under(asked.model)
            generator = torch.Generator().manual_seed((asked.seed or 0) % 2**63)
            ids, drawn, tops, reason = list(asked.prompt), [], [], "length"
            for _ in range(asked.max_tokens or 1):
                id, logprob, top = self._next(logits_of(ids), asked, generator)
                ids.append(id)
                drawn.append(logprob)
                tops.append(top)
                if self._ends(ids[len(asked.prompt) :], asked):
                    reason = "stop"
                    break
        return self._answer(asked, ids[len(asked.prompt) :], drawn, tops, reason)

    def _under(self, name: str | None) -> Any:
        def logits(ids: list[int]) -> torch.Tensor:
            if name in self.adapters:
                self.base.set_adapter(_key(str(name)))
                return self.base(torch.tensor([ids])).logits[0, -1]
            if isinstance(self.base, PeftModel):
                with self.base.disable_adapter():
                    return self.base(torch.tensor([ids])).logits[0, -1]
            return self.base(torch.tensor([ids])).logits[0, -1]

        return logits

    def _next(self, logits: torch.Tensor, asked: CompletionRequest, generator: torch.Generator) -> Any:
        temperature = 1.0 if asked.temperature is None else asked.temperature
        processed = torch.log_softmax(logits / (temperature or 1.0), -1)
        if asked.top_k and asked.top_k > 0:
            kept = processed.topk(asked.top_k).values[-1]
            processed = torch.log_softmax(processed.masked_fill(processed < kept, float("-inf")), -1)
        id = int(processed.argmax() if temperature == 0 else torch.multinomial(processed.exp(), 1, generator=generator))
        told = processed if self.flags.logprobs_mode == "processed_logprobs" else torch.log_softmax(logits, -1)
        return id, float(told[id]), {f"token_id:{int(told.argmax())}": float(told.max())}

    def _ends(self, said: list[int], asked: CompletionRequest) -> bool:
        if said[-1] in (asked.stop_token_ids or ()):
            return True
        text = self.tokenizer.decode(said, skip_special_tokens=asked.skip_special_tokens)
        stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        return any(stop in text for stop in stops)

    def _answer(self, asked: CompletionRequest, said: list[int], drawn: list[float], tops: Any, reason: str) -> Any:
        logprobs = {
            "text_offset": [0] * len(said),
            "token_logprobs": drawn,
            "tokens": [f"token_id:{id}" for id in said],
            "top_logprobs": tops,
        }
        choice = {
            "index": 0,
            "text": self.tokenizer.decode(said),
            "logprobs": None if asked.logprobs is None else logprobs,
            "finish_reason": reason,
            "stop_reason": None,
            "prompt_logprobs": None,
        }
        if asked.return_token_ids:
            choice |= {"token_ids": said, "prompt_token_ids": asked.prompt}
        counts = {"prompt_tokens": len(asked.prompt), "completion_tokens": len(said)}
        total = len(asked.prompt) + len(said)
        usage = counts | {"total_tokens": total, "prompt_tokens_details": {"cached_tokens": 4}}
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": int(time.time()),
            "model": asked.model,
            "choices": [choice],
            "usage": usage,
        }


def _key(name: str) -> str:
    return name.replace("-", "_")


def _error(status: int, kind: str, message: str) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": status}
    return JSONResponse({"error": error}, status_code=status)


def make_app(brain: Brain) -> Starlette:
    async def completions(request: Request) -> Response:
        if refused := _unauthorised(request):
            return refused
        try:
            asked = CompletionRequest.model_validate(await request.json())
        except ValidationError as error:
            return _error(400, "Bad Request", str(error))
        if not brain.knows(asked.model):
            return _error(404, "NotFoundError", f"The model `{asked.model}` does not exist.")
        if brain.is_held:
            brain.asked.append(str(asked.model))
            await run_in_threadpool(time.sleep, 3600)
        return JSONResponse(await run_in_threadpool(brain.complete, asked))

    async def load(request: Request) -> Response:
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "True" or not brain.flags.enable_lora:
            return _error(404, "NotFoundError", "Not Found")
        asked = LoadLoRA.model_validate(await request.json())
        if asked.lora_name in brain.adapters and not asked.load_inplace:
            text = f"The lora adapter '{asked.lora_name}' has already been loaded. If you want to load the adapter in "
            return _error(400, "InvalidUserInput", text + "place, set 'load_inplace' to True.")
        try:
            await run_in_threadpool(brain.load, asked)
        except ValueError as error:
            return _error(400, "BadRequestError", str(error))
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' added successfully.")

    async def unload(request: Request) -> Response:
        asked = UnloadLoRA.model_validate(await request.json())
        if asked.lora_name not in brain.adapters:
            return _error(404, "NotFoundError", f"The lora adapter '{asked.lora_name}' cannot be found.")
        del brain.adapters[asked.lora_name]
        brain.unloaded.append(asked.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{asked.lora_name}' removed successfully.")

    async def models(request: Request) -> Response:
        if refused := _unauthorised(request):
            return refused
        base = brain.flags.served_model_name or brain.flags.model
        cards = [_card(base, brain.flags.model, None, brain.flags.max_model_len or 2048)]
        cards += [_card(name, path, base, None) for name, path in brain.adapters.items()]
        return JSONResponse({"object": "list", "data": cards})

    async def health(_: Request) -> Response:
        return Response(status_code=200)

    async def hold(_: Request) -> Response:
        brain.is_held = True
        return Response(status_code=200)

    async def seen(_: Request) -> Response:
        known = {"asked": brain.asked, "loaded": list(brain.adapters), "unloaded": brain.unloaded}
        return JSONResponse(known | {"most_loaded": brain.most_loaded})

    return Starlette(
        routes=[
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/load_lora_adapter", load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", unload, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/test/hold", hold, methods=["POST"]),
            Route("/test/seen", seen),
        ]
    )


def _unauthorised(request: Request) -> Response | None:
    key = os.environ.get("VLLM_API_KEY")
    if key and request.headers.get("authorization") != f"Bearer {key}":
        return JSONResponse({"error": "Unauthorized"}, status_code=401)
    return None


def _card(id: str, root: str, parent: str | None, length: int | None) -> dict[str, Any]:
    card = {"id": id, "object": "model", "created": 0, "owned_by": "vllm", "root": root, "parent": parent}
    return card | {"max_model_len": length, "permission": []}


def read_flags(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("model")
    for name, kind in {
        "host": str,
        "port": int,
        "served-model-name": str,
        "dtype": str,
        "generation-config": str,
    }.items():
        serve.add_argument(f"--{name}", type=kind)
    for name in ("max-loras", "max-cpu-loras", "max-model-len", "max-num-seqs", "seed", "tensor-parallel-size"):
        serve.add_argument(f"--{name}", type=int)
    serve.add_argument("--enable-lora", action="store_true")
    serve.add_argument("--enforce-eager", action="store_true")
    serve.add_argument("--max-lora-rank", type=int, choices=[1, 8, 16, 32, 64, 128, 256, 320, 512], default=16)
    serve.add_argument("--logprobs-mode", choices=["raw_logprobs", "processed_logprobs"], default="raw_logprobs")
    serve.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    flags = read_flags()
    uvicorn.run(make_app(Brain(flags)), host=flags.host or "127.0.0.1", port=flags.port, log_level="warning")
