"""Makes the demo's model: imitation of a lazy demonstrator, two minutes on one CPU core, the same every time.

The folder written is like any other of a causal language model: config, safetensors, tokenizer with chat template.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scripts.demo_model.demonstrator import Habits, demonstrations
from scripts.demo_model.tokenizer import make_tokenizer, render

from agentlightning.demo.sql.agent import TOOLS

if TYPE_CHECKING:
    from torch import Tensor


class Recipe(NamedTuple):
    """Everything the model comes from."""

    seed: int = 0
    num_demonstrations: int = 8000
    habits: Habits = Habits()
    num_steps: int = 800
    batch_size: int = 32
    learning_rate: float = 6e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    warmup_steps: int = 20
    final_rate: float = 0.05
    """Of the learning rate, reached in a straight line."""
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 2
    num_heads: int = 4
    rope_theta: float = 500.0
    initializer_range: float = 0.08
    """With transformers' usual 0.02 so small a model learns far less in as many steps."""
    max_positions: int = 512


class Row(NamedTuple):
    """A conversation's ids, and which of them the assistant said."""

    ids: list[int]
    is_said: list[bool]


def make_model(folder: Path, recipe: Recipe = Recipe()) -> None:
    """Train by the recipe and write the model; weights are rounded to bfloat16, and computed with as float32."""
    import torch

    torch.manual_seed(recipe.seed)
    tokenizer = make_tokenizer()
    model = _new_model(recipe, tokenizer)
    rows = [said(tokenizer, messages) for messages in _demonstrations(recipe)]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    for step, batch in zip(range(recipe.num_steps), _batches(rows, recipe), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _rate(step, recipe)
        ids, mask, labels = pad(batch, tokenizer.pad_token_id)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    _save(model, tokenizer, folder)


def said(tokenizer: Any, messages: list[dict[str, Any]]) -> Row:
    """The conversation in tokens; the assistant says what follows its mark, to its end."""
    ids = render(tokenizer, messages, TOOLS)
    begins, ends = tokenizer.convert_tokens_to_ids("<|assistant|>"), tokenizer.eos_token_id
    is_said, is_speaking = [], False
    for id in ids:
        is_said.append(is_speaking)
        is_speaking = (is_speaking and id != ends) or id == begins
    return Row(ids, is_said)


def pad(rows: list[Row], pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and labels (-100 where nothing is learned), each (rows, longest)."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = [row.ids + [pad_id] * (longest - len(row.ids)) for row in rows]
    mask = [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows]
    labels = [
        [id if learned else -100 for id, learned in zip(row.ids, row.is_said, strict=True)]
        + [-100] * (longest - len(row.ids))
        for row in rows
    ]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def _demonstrations(recipe: Recipe) -> list[list[dict[str, Any]]]:
    return demonstrations(recipe.num_demonstrations, recipe.seed, recipe.habits)


def _batches(rows: list[Row], recipe: Recipe) -> Iterator[list[Row]]:
    """Endless; rows of like length together, batches in any order."""
    dice = random.Random(recipe.seed)
    rows = sorted(rows, key=lambda row: len(row.ids))
    batches = [rows[start : start + recipe.batch_size] for start in range(0, len(rows), recipe.batch_size)]
    while True:
        dice.shuffle(batches)
        yield from batches


def _rate(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / (recipe.num_steps - recipe.warmup_steps)
    return 1 - (1 - recipe.final_rate) * done


def _new_model(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.num_layers,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_heads,
        head_dim=recipe.hidden_size // recipe.num_heads,
        max_position_embeddings=recipe.max_positions,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.initializer_range,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    import torch

    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    # Older releases of transformers look for these names; bfloat16 is only how the numbers are stored.
    theta = model.config.rope_parameters["rope_theta"]
    _amend(folder / "config.json", {"rope_theta": theta, "dtype": "float32", "torch_dtype": "float32"})
    _amend(
        folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}, drop="extra_special_tokens"
    )
    for path in folder.iterdir():
        path.chmod(0o644)


def _amend(path: Path, values: dict[str, Any], drop: str = "") -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) | values
    settings.pop(drop, None)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
