"""Our losses and gradients beside TRL's, computed by its own trainers on the same rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tests.engine.rollouts_made_here import assert_close, gradient, learner, pairs, rollouts
from tests.engine.test_losses import near_the_policy
from tests.models_made_here import make_model, make_tokenizer

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL's own


def settings(kind: Any, folder: Path, **options: Any) -> Any:
    return kind(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=8,
        **options,
    )


def gradients_of(trainer: Any, loss: Any) -> list[Any]:
    trainer.model.zero_grad()
    loss.backward()
    return [p.grad for p in trainer.model.parameters()]


def test_cross_entropy_equals_that_of_trl(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    samples = rollouts()
    ids = [[*s.prompt_ids, *s.completion_ids] for s in samples]
    masks = [[0] * len(s.prompt_ids) + s.mask for s in samples]
    labels = [[i if bit else -100 for i, bit in zip(row, mask)] for row, mask in zip(ids, masks)]
    data = Dataset.from_dict({"input_ids": ids, "labels": labels})
    options = settings(SFTConfig, tmp_path, max_length=None)
    trainer = SFTTrainer(make_model(), args=options, train_dataset=data, processing_class=make_tokenizer())
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    by = learner()
    assert_close(gradient(by, samples, Learning(loss="cross_entropy")), gradients_of(trainer, loss))
    ours = by.update(samples, adapter="a", learning=Learning(loss="cross_entropy")).metrics["loss"]
    assert ours == pytest.approx(float(loss.detach()), rel=1e-5)


def test_dpo_equals_that_of_trl(tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    data = pairs()
    words = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 8)
    options = settings(DPOConfig, tmp_path, beta=0.3, max_length=None)
    policy = make_model()
    moved(policy)
    trainer = DPOTrainer(
        policy, ref_model=make_model(), args=options, train_dataset=words, processing_class=make_tokenizer()
    )
    rows = [
        {
            "prompt_ids": p.better.prompt_ids,
            "chosen_ids": p.better.completion_ids,
            "rejected_ids": p.worse.completion_ids,
        }
        for p in data
    ]
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    by = learner()
    with torch.no_grad(), by.weights.training("a") as model:
        moved(model)
    learning = Learning(loss="dpo", options={"beta": 0.3})
    assert_close(gradient(by, data, learning), gradients_of(trainer, loss), tolerance=1e-4)
    assert by.update(data, adapter="a", learning=learning).metrics["loss"] == pytest.approx(
        float(loss.detach()), rel=1e-5
    )


def moved(model: Any) -> None:
    """The same small move of all weights, so that policy and reference differ."""
    import torch

    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=draw)


CASES = [
    ("grpo", "grpo", {}, {"epsilon": 0.2, "epsilon_high": 0.28}),
    ("dr_grpo", "dr_grpo", {"max_tokens": 16}, {"epsilon": 0.2}),
    ("grpo", "dapo", {"normalise": "tokens"}, {"epsilon": 0.2, "epsilon_high": 0.28}),
    ("cispo", "cispo", {"normalise": "tokens", "clip_high": 0.2}, {"epsilon_high": 1.2}),
    ("gspo", "grpo", {}, {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}),
    ("reinforce++", "grpo", {}, {"epsilon": 0.2}),
    ("ppo", "grpo", {}, {"epsilon": 0.2}),
    ("rloo", "grpo", {}, {"epsilon": 1e6}),
]


@pytest.mark.parametrize(("name", "theirs", "options", "their_options"), CASES)
def test_policy_gradients_equal_those_of_trl(
    tmp_path: Path, name: str, theirs: str, options: dict[str, Any], their_options: dict[str, Any]
) -> None:
    samples = near_the_policy(single_turns())
    trainer = grpo_trainer(tmp_path, loss_type=theirs, **their_options)
    loss = trainer._compute_loss(trainer.model, inputs(samples))
    learning = Learning(loss=name, options={"correction": "none", **options})
    by = learner()
    assert_close(gradient(by, samples, learning), gradients_of(trainer, loss))
    assert by.update(samples, adapter="a", learning=learning).metrics["loss"] == pytest.approx(
        float(loss.detach()), rel=1e-4
    )


def single_turns() -> list[Sample]:
    draw = random.Random(5)
    found = rollouts(8, num_turns=1)
    return [sample.with_advantage(draw.gauss(0, 1)) for sample in found]


def grpo_trainer(folder: Path, **options: Any) -> Any:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        make_model(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=settings(GRPOConfig, folder, beta=0.0, num_generations=2, max_completion_length=16, **options),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 8),
        processing_class=make_tokenizer(),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def inputs(samples: list[Sample]) -> dict[str, Any]:
    """As TRL's own collection of rollouts would give them: prompts padded left, completions right."""
    import torch

    def table(rows: list[list[Any]], *, is_left: bool = False, fill: float = 0) -> Any:
        longest = max(len(row) for row in rows)
        pad = [[fill] * (longest - len(row)) for row in rows]
        return torch.tensor([[*p, *row] if is_left else [*row, *p] for p, row in zip(pad, rows)])

    prompts, answers = [s.prompt_ids for s in samples], [s.completion_ids for s in samples]
    return {
        "prompt_ids": table(prompts, is_left=True),
        "prompt_mask": table([[1] * len(row) for row in prompts], is_left=True),
        "completion_ids": table(answers),
        "completion_mask": table([[1] * len(row) for row in answers]),
        "advantages": torch.tensor([(s.advantages or [0.0])[0] for s in samples]),
        "old_per_token_logps": table([s.logprobs or [] for s in samples]),
        "num_items_in_batch": torch.tensor(float(sum(s.num_sampled for s in samples))),
    }
