"""TRL's side of `rl_cost`: its GRPOTrainer on the same prompts, alone or with a `rollout_func` of several turns."""

from __future__ import annotations

import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any


def trl(model: Path, num_steps: int, num_turns: int) -> Any:
    """The counted steps' costs."""
    import os

    from benchmarks.rl_cost import GROUP, LENGTH, NUM_TASKS, Costs, messages, questions
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    marks, lengths = list[float](), list[int]()

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(time.process_time())

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        if num_turns == 1:
            lengths.extend(map(len, completion_ids))
        return [random.random() for _ in completions]

    settings: dict[str, Any] = {
        "per_device_train_batch_size": NUM_TASKS * GROUP,
        "num_generations": GROUP,
        "max_completion_length": LENGTH if num_turns == 1 else 512,
        "max_steps": num_steps + 1,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "beta": 0.0,
        "model_init_kwargs": {"dtype": "float32"},
        "disable_tqdm": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset.from_list([{"prompt": messages(question)} for question in questions(NUM_TASKS * num_steps)])
        trainer = GRPOTrainer(
            model=str(model),
            reward_funcs=reward,
            args=GRPOConfig(output_dir=folder, **settings),
            train_dataset=data,
            callbacks=[Clock()],
            rollout_func=Rollouts(num_turns, lengths) if num_turns > 1 else None,
        )
        trainer.train()
    return Costs([after - before for before, after in pairwise(marks)], mean(lengths))


class Rollouts:
    """Several answers a rollout, as TRL's documentation shows it: what is under way is generated together."""

    def __init__(self, num_turns: int, lengths: list[int]) -> None:
        self._num_turns = num_turns
        self._lengths = lengths

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        tokenizer = trainer.processing_class
        texts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
        starts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        bridges = [_bridge(tokenizer, prompts[0], turn) for turn in range(self._num_turns - 1)]
        ids: list[list[int]] = [[] for _ in prompts]
        masks: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        for turn in range(self._num_turns):
            histories = [start + own for start, own in zip(starts, ids, strict=True)]
            for row, (answer, logs) in enumerate(_generated(trainer, histories)):
                seen = bridges[turn] if turn < self._num_turns - 1 else []
                end = tokenizer.eos_token_id
                seen = seen[1:] if seen and answer and answer[-1] == end == seen[0] else seen
                ids[row] += answer + seen
                masks[row] += [1] * len(answer) + [0] * len(seen)
                logprobs[row] += logs + [0.0] * len(seen)
        self._lengths.extend(map(sum, masks))
        return {"prompt_ids": starts, "completion_ids": ids, "logprobs": logprobs, "env_mask": masks}


def _generated(trainer: Any, histories: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """Answers to all histories at once, and their logprobs."""
    import torch
    from benchmarks.rl_cost import LENGTH

    tokenizer, width = trainer.processing_class, max(map(len, histories))
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in histories])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in histories])
    options = {"max_new_tokens": LENGTH, "do_sample": True, "top_k": 0, "pad_token_id": pad, "eos_token_id": end}
    with torch.no_grad():
        found = trainer.model.generate(
            ids, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **options
        )
    chosen = found.sequences[:, width:]
    logs = torch.stack(found.logits, 1).log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
    answers: list[tuple[list[int], list[float]]] = []
    for row, values in zip(chosen.tolist(), logs.tolist(), strict=True):
        length = row.index(end) + 1 if end in row else len(row)
        answers.append((row[:length], values[:length]))
    return answers


def _bridge(tokenizer: Any, prompt: list[Any], turn: int) -> list[int]:
    """The ids from the end of an answer to the beginning of the next one."""
    from benchmarks.rl_cost import OBSERVATIONS

    said = [*prompt, {"role": "assistant", "content": "the"}]
    told = [*said, {"role": "user", "content": OBSERVATIONS[turn % len(OBSERVATIONS)]}]
    whole = tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
    before = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) + "the"
    assert whole.startswith(before)
    return tokenizer.encode(whole[len(before) :], add_special_tokens=False)
