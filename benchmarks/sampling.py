"""How fast does the engine sample, next to `generate` of an unmodified transformers model?

    python -m benchmarks.sampling            # all sizes; about three CPU-minutes
    python -m benchmarks.sampling 0.4M 5M

Both sample the same number of tokens from the same random model, with one thread, in turns within one run; tokens per
CPU-second, the best round of each. `generate` is given logits to keep, since a trainer needs logprobs.

- equal: 32 requests of 32 prompt tokens, answers of one length.
- uneven: 64 requests of which 32 are in flight, prompts of 8 to 64 tokens, lengths log-uniform from 4 up. `generate`
  takes them 32 at a time and goes on until the longest has ended.
- turns: 16 tasks of 8 rollouts of 3 turns, a prompt of 128 tokens, then answers and observations of 24 each.
  `generate` reads the whole history at every turn, 32 rollouts at a time.
- floor: CPU time over that of 2 FLOP per parameter and sampled token at the speed of a large matrix product.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Qwen3Config

from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.row import Row
from agentlightning.engine.torch.sampler import Sampler
from agentlightning.engine.torch.weights import Weights
from agentlightning.engine.torch.wishes import Wishes

BATCH = 32


class Size(msgspec.Struct, frozen=True):
    """Of a model, and the answer lengths that keep its measurement short."""

    vocabulary: int
    width: int
    layers: int
    equal: int
    longest: int
    rounds: int
    has_turns: bool


SIZES = {
    "0.4M": Size(160, 128, 2, 64, 256, 3, True),
    "5M": Size(2000, 256, 5, 48, 128, 2, True),
    "25M": Size(512, 512, 8, 24, 64, 2, False),
}
Requests = list[tuple[list[int], int]]
"""Prompt ids and the number of tokens to sample."""


class One:
    """A library of one model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def using(self, name: str, /) -> AbstractContextManager[Any]:
        return nullcontext(self._model)


def build(size: Size) -> Any:
    torch.manual_seed(0)
    heads = max(4, size.width // 64)
    config = Qwen3Config(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=size.width // heads,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def ours(model: Any, requests: Requests) -> None:
    sampler = Sampler(One(model), Limits(max_rows=BATCH))
    for seed, (prompt, count) in enumerate(requests):
        sampler.add(row(prompt, count, seed, lambda _row, error: check(error)))
    while sampler.is_ready:
        sampler.step()


def generate(model: Any, requests: Requests) -> None:
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        generated(model, [prompt for prompt, _ in part], max(count for _, count in part))


def generated(model: Any, prompts: list[list[int]], count: int) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        found = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=count,
            do_sample=True,
            top_k=0,
            pad_token_id=0,
            eos_token_id=None,
            return_dict_in_generate=True,
            output_logits=True,
        )
    return found.sequences[:, width:].tolist()


TURNS, TASKS, ROLLOUTS, WORDS = 3, 16, 8, 24


def our_turns(model: Any, prompts: list[list[int]]) -> None:
    """The next turn of a rollout is asked for as soon as the last one has ended."""
    sampler = Sampler(One(model), Limits(max_rows=BATCH))

    def ask(ids: list[int], rollout: int, turn: int) -> None:
        def ended(done: Row, error: BaseException | None) -> None:
            check(error)
            if turn + 1 < TURNS:
                ask(done.ids + observation(rollout, turn), rollout, turn + 1)

        sampler.add(row(ids, WORDS, rollout * TURNS + turn, ended, rollout_id=str(rollout)))

    for rollout, prompt in enumerate(prompts):
        ask(prompt, rollout, 0)
    while sampler.is_ready:
        sampler.step()


def generate_turns(model: Any, prompts: list[list[int]]) -> None:
    for start in range(0, len(prompts), BATCH):
        histories = [list(prompt) for prompt in prompts[start : start + BATCH]]
        for turn in range(TURNS):
            for place, answer in enumerate(generated(model, histories, WORDS)):
                histories[place] += answer + observation(start + place, turn)


def observation(rollout: int, turn: int) -> list[int]:
    return [(rollout * 7 + turn * 5 + place * 3) % 150 + 1 for place in range(WORDS)]


def row(prompt: list[int], count: int, seed: int, ended: Callable[..., None], *, rollout_id: str = "") -> Row:
    options: dict[str, Any] = {"ends": frozenset[int](), "tokenizer": None, "on_end": ended, "rollout_id": rollout_id}
    return Row(prompt, Wishes(), max_new=count, seed=seed, **options)


def check(error: BaseException | None) -> None:
    if error is not None:
        raise error


def seconds(work: Callable[..., None], *given: Any) -> float:
    """Of the CPU: other programs on the machine do not count."""
    started = time.process_time()
    work(*given)
    return time.process_time() - started


def flops_per_second() -> float:
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = min(seconds(lambda: [a @ b for _ in range(10)] and None) for _ in range(5))
    return 10 * 2 * 1024**3 / best


def measured(name: str, peak: float) -> list[list[str]]:
    size, draw = SIZES[name], torch.Generator().manual_seed(1)
    model = build(size)

    def prompt(length: int) -> list[int]:
        return torch.randint(1, size.vocabulary, (length,), generator=draw).tolist()

    spread = torch.rand(2 * BATCH, generator=draw).tolist()
    lengths = [int(4 * (size.longest / 4) ** share) for share in spread]
    widths = torch.randint(8, 64, (2 * BATCH,), generator=draw).tolist()
    uneven = [(prompt(width), length) for width, length in zip(widths, lengths, strict=True)]
    shared = [ids for ids in (prompt(128) for _ in range(TASKS)) for _ in range(ROLLOUTS)]
    cases: list[tuple[str, Callable[..., None], Callable[..., None], Any, int]] = [
        ("equal", ours, generate, [(prompt(32), size.equal) for _ in range(BATCH)], BATCH * size.equal),
        ("uneven", ours, generate, uneven, sum(lengths)),
    ]
    if size.has_turns:
        cases.append(("turns", our_turns, generate_turns, shared, len(shared) * TURNS * WORDS))
    ours(model, [(prompt(8), 3)])
    generate(model, [(prompt(8), 3)])
    found = list[list[str]]()
    for label, mine, theirs, given, count in cases:
        times = [(seconds(mine, model, given), seconds(theirs, model, given)) for _ in range(size.rounds)]
        fast, slow = min(pair[0] for pair in times), min(pair[1] for pair in times)
        floor = 2 * model.num_parameters() * count / peak
        cells = [name, label, f"{count / fast:,.0f}", f"{count / slow:,.0f}", f"{slow / fast:.2f}"]
        found.append([*cells, f"{fast / floor:.1f}", f"{slow / floor:.1f}"])
        print(found[-1], file=sys.stderr, flush=True)
    return found


def swap_seconds() -> tuple[float, float]:
    """Of going from one adapter to another that is at hand, and of the first use of a version (5M)."""
    weights = Weights(build(SIZES["5M"]))
    with torch.no_grad():
        for parameter in weights.parameters("coder"):
            parameter.normal_(0, 0.02)

    def switch() -> None:
        for _ in range(200):
            for name in ("", "coder"):
                with weights.using(name):
                    pass

    def first() -> None:
        with weights.using(version):
            pass

    version = weights.snapshot("coder")
    return min(seconds(switch) for _ in range(3)) / 400, seconds(first)


def main() -> None:
    torch.set_num_threads(1)
    peak = flops_per_second()
    table = Table(
        "parameters", "case", "engine, tokens/s", "generate, tokens/s", "ratio", "engine, × floor", "generate"
    )
    for name in sys.argv[1:] or SIZES:
        for cells in measured(name, peak):
            table.add_row(*cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"large matrix product: {peak / 1e9:.0f} GFLOP/s per core")
    at_hand, first = swap_seconds()
    console.print(
        f"swap of adapters (5M, rank 16): {at_hand * 1e6:.0f} µs; first use of a version {first * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
