"""Trained tokens per CPU-second beside TRL's SFTTrainer, a GRPO update beside TRL's, and memory on a GPU.

    python -m benchmarks.training            # the table in RESULTS.md; needs trl and datasets
    python -m benchmarks.training --quick    # the two smaller models

Same random Qwen 3 models, same rows, same optimiser and clipping, 32 bits, all parameters, one thread. CPU-seconds, so
that other programs on the machine disturb less; sides take turns and the median of the rounds counts. The floor is 6
operations per parameter and token at the speed of one large matrix product, measured just before.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning
from agentlightning.engine.torch.learner import Learner
from agentlightning.engine.torch.weights import AdapterPlan, Weights

SIZES = {
    "0.4 M": {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 320},
    "5 M": {"hidden_size": 256, "num_hidden_layers": 6, "vocab_size": 1024},
    "25 M": {"hidden_size": 512, "num_hidden_layers": 8, "vocab_size": 4096},
}
ROWS = {"0.4 M": 32, "5 M": 16, "25 M": 8}
STEPS = {"0.4 M": 12, "5 M": 4, "25 M": 2}
GPU_MODEL = {"hidden_size": 2048, "num_hidden_layers": 24, "vocab_size": 32_000}
"""About 1.5 billion parameters."""


def make_model(size: dict[str, int], *, dtype: Any = None) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    width = size["hidden_size"]
    config = Qwen3Config(
        **size,
        intermediate_size=width * 3,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
    )
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).to(dtype or torch.float32)


def make_rows(count: int, lengths: tuple[int, int], num_words: int, seed: int = 0) -> list[Sample]:
    """All tokens but the first are trained."""
    draw = random.Random(seed)
    rows: list[Sample] = []
    for index in range(count):
        ids = [draw.randrange(num_words) for _ in range(draw.randint(*lengths))]
        prompt, rest = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        rows.append(
            Sample(
                prompt_ids=prompt,
                completion_ids=rest,
                mask=[1] * len(rest),
                logprobs=[-5.0] * len(rest),
                agent="a",
                rollout_id=str(index),
                segment_id=0,
            ).with_advantage(draw.gauss(0, 1))
        )
    return rows


def ours_sft(model: Any, rows: list[Sample], num_steps: int) -> float:
    by = Learner(Weights(model, plan=AdapterPlan(method="full")))
    whole = [_all_trained(row) for row in rows]
    learning = Learning(loss="cross_entropy", learning_rate=1e-4)
    return cpu_seconds(lambda: by.update(whole, adapter="a", learning=learning), num_steps)


def _all_trained(row: Sample) -> Sample:
    ids = [*row.prompt_ids, *row.completion_ids]
    rest = ids[1:]
    return Sample(
        prompt_ids=ids[:1],
        completion_ids=rest,
        mask=[1] * len(rest),
        agent="a",
        rollout_id=row.rollout_id,
        segment_id=0,
    )


def trl_sft(model: Any, rows: list[Sample], num_steps: int) -> float:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    ids = [[*row.prompt_ids, *row.completion_ids] for row in rows]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.process_time())

        def on_train_end(self, *_: Any, **__: Any) -> None:
            times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        options = trl_options(SFTConfig, folder, len(rows), max_steps=num_steps + 1, max_length=None)
        trainer = SFTTrainer(
            model,
            args=options,
            train_dataset=Dataset.from_dict({"input_ids": ids, "labels": ids}),
            processing_class=tokenizer(),
            callbacks=[Clock()],
        )
        trainer.train()
    return (times[-1] - times[1]) / num_steps  # the first step is warm-up


def trl_options(kind: Any, folder: str, batch_size: int, **options: Any) -> Any:
    return kind(
        output_dir=folder,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=batch_size,
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        learning_rate=1e-4,
        **options,
    )


def tokenizer() -> Any:
    """TRL wants one; rows have their ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<end>": 0, "a": 1}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")


def ours_grpo(model: Any, rows: list[Sample], num_steps: int) -> float:
    by = Learner(Weights(model, plan=AdapterPlan(method="full")))
    learning = Learning(loss="grpo", options={"correction": "none"}, learning_rate=1e-4)
    return cpu_seconds(lambda: by.update(rows, adapter="a", learning=learning), num_steps)


def trl_grpo(model: Any, rows: list[Sample], num_steps: int) -> float:
    """Its loss, backward pass, clipping and step, on inputs as it would have collected them; not its sampling."""
    import torch
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        trainer: Any = GRPOTrainer(
            model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=trl_options(GRPOConfig, folder, len(rows), beta=0.0, num_generations=2, loss_type="grpo"),
            train_dataset=Dataset.from_list([{"prompt": "a"}] * len(rows)),
            processing_class=tokenizer(),
        )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    optimiser = torch.optim.AdamW(trainer.model.parameters(), lr=1e-4, fused=True)
    given = {
        "prompt_ids": torch.tensor([row.prompt_ids for row in rows]),
        "completion_ids": torch.tensor([row.completion_ids for row in rows]),
        "advantages": torch.tensor([(row.advantages or [0.0])[0] for row in rows]),
        "old_per_token_logps": torch.tensor([row.logprobs or [] for row in rows]),
    }
    for name in ("prompt", "completion"):
        given[f"{name}_mask"] = torch.ones_like(given[f"{name}_ids"])

    def step() -> None:
        trainer._compute_loss(trainer.model, given).backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return cpu_seconds(step, num_steps)


def cpu_seconds(step: Callable[[], Any], num_steps: int) -> float:
    """Of one step, after one to warm up."""
    step()
    start = time.process_time()
    for _ in range(num_steps):
        step()
    return (time.process_time() - start) / num_steps


def operations_per_second() -> float:
    """What this core makes of a large matrix product in 32 bits."""
    import torch

    a = torch.randn(1024, 1024)
    return max(2 * 1024**3 / cpu_seconds(lambda: a @ a, 4) for _ in range(5))


def compare(
    ours: Callable[..., float], theirs: Callable[..., float], size: str, rows: list[Sample], num_rounds: int
) -> tuple[float, float]:
    """CPU-seconds of a step on both sides: medians of rounds that take turns."""
    sides: tuple[list[float], list[float]] = ([], [])
    for _ in range(num_rounds):
        for times, side in zip(sides, (ours, theirs), strict=True):
            times.append(side(make_model(SIZES[size]), rows, STEPS[size]))
    return statistics.median(sides[0]), statistics.median(sides[1])


def report_sft(sizes: list[str], num_rounds: int) -> None:
    print("| parameters | rows | ours, tokens per CPU-second | SFTTrainer | ours / theirs | ours / floor's time |")
    print("|---|---|---|---|---|---|")
    for size in sizes:
        number = sum(p.numel() for p in make_model(SIZES[size]).parameters())
        for what, lengths in {"128 tokens": (128, 128), "32 to 224": (32, 224)}.items():
            rows = make_rows(ROWS[size], lengths, SIZES[size]["vocab_size"])
            tokens = sum(row.num_tokens for row in rows)
            speed = operations_per_second()
            ours, theirs = compare(ours_sft, trl_sft, size, rows, num_rounds)
            floor = 6 * number * tokens / speed
            print(
                f"| {number / 1e6:.1f} M | {len(rows)} of {what} | {tokens / ours:,.0f} | {tokens / theirs:,.0f} "
                f"| {theirs / ours:.2f}× | {ours / floor:.2f}× |",
                flush=True,
            )


def report_grpo(sizes: list[str], num_rounds: int) -> None:
    print("\n| parameters | rows | ours, CPU-seconds per update | GRPOTrainer | ours / theirs |\n|---|---|---|---|---|")
    for size in sizes:
        rows = make_rows(2 * ROWS[size], (64, 64), SIZES[size]["vocab_size"])
        ours, theirs = compare(ours_grpo, trl_grpo, size, rows, num_rounds)
        print(
            f"| {size} | {len(rows)} of 32 + 32 tokens | {ours:.3f} | {theirs:.3f} | {ours / theirs:.2f} |", flush=True
        )


def report_memory() -> None:
    import torch

    if not torch.cuda.is_available():
        print("\nNo GPU here, so no memory table.")
        return
    print("\n| method | peak memory of an update, GB |\n|---|---|")
    for method in ("full", "lora", "qlora"):
        print(f"| {method} | {peak_memory(method) / 1e9:.2f} |", flush=True)


def peak_memory(method: Any) -> int:
    """Of two steps on 8 rows of 512 tokens, base model and optimiser included."""
    import torch
    from transformers import AutoModelForCausalLM

    plan = AdapterPlan(method=method)
    with tempfile.TemporaryDirectory() as folder:
        make_model(GPU_MODEL, dtype=torch.bfloat16).save_pretrained(folder)
        options: dict[str, Any] = {"dtype": torch.bfloat16, "device_map": {"": "cuda"}}
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=plan.quantisation(), **options)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    by = Learner(Weights(model, plan=plan), saves_memory=True)
    rows = make_rows(8, (512, 512), GPU_MODEL["vocab_size"])
    for _ in range(2):
        by.update(rows, adapter="a", learning=Learning(loss="cross_entropy"))
    return torch.cuda.max_memory_allocated()


def main() -> None:
    import torch
    import transformers

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave the largest model out")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import datasets

    datasets.disable_progress_bars()
    sizes = list(SIZES)[: 2 if given.quick else 3]
    report_sft(sizes, given.rounds)
    report_grpo(sizes, given.rounds)
    report_memory()


if __name__ == "__main__":
    main()
