"""Every loss beside its formula written out once more, plainly: one row at a time, all logits, no clever sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.engine.rollouts_made_here import assert_close, gradient, learner, pairs, rollouts, unmerged
from tests.models_made_here import make_model

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning
from agentlightning.engine.torch import losses
from agentlightning.errors import ConfigError, DataError

POLICY = ["grpo", "dr_grpo", "rloo", "reinforce++", "ppo", "cispo", "gspo"]


def plain_logits(model: Any, sample: Sample) -> Any:
    """Of each completion token: the logits it was drawn from."""
    import torch

    ids = [*sample.prompt_ids, *sample.completion_ids]
    start = len(sample.prompt_ids)
    return model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]


def plain_logprobs(model: Any, sample: Sample, temperature: float = 1.0) -> list[Any]:
    logs = (plain_logits(model, sample) / temperature).log_softmax(-1)
    return [logs[place, id] for place, id in enumerate(sample.completion_ids)]


Formula = Callable[[Any, float], Any]
"""Ratio and advantage to the loss of one token."""


def plain_clip(low: float, high: float) -> Formula:
    def formula(ratio: Any, advantage: float) -> Any:
        import torch

        held = torch.clamp(ratio, 1 - low, 1 + high)
        return -torch.minimum(ratio * advantage, held * advantage)

    return formula


FORMULAS: dict[str, Formula] = {
    "grpo": plain_clip(0.2, 0.28),
    "dr_grpo": plain_clip(0.2, 0.2),
    "reinforce++": plain_clip(0.2, 0.2),
    "ppo": plain_clip(0.2, 0.2),
    "gspo": plain_clip(3e-4, 4e-4),
    "rloo": lambda ratio, advantage: -ratio * advantage,
}


def plain_policy_loss(
    model: Any, samples: list[Sample], name: str, *, correction: str, temperature: float = 1.0
) -> Any:
    """The first step's loss, where the weights are still those the update began with."""
    total = 0.0
    for sample in samples:
        new = plain_logprobs(model, sample, temperature)
        own: Any = 0.0
        for turn in sample.turns:
            places = range(turn.start, turn.end)
            old = {p: sample.logprobs[p] if correction == "none" else new[p].detach() for p in places}
            logs = {p: new[p] - old[p] for p in places}
            mean = sum(logs.values()) / len(logs)
            for p in places:
                advantage = sample.advantages[p]
                ratio = (mean if name == "gspo" else logs[p]).exp()
                if name == "cispo":
                    term = -min(float(ratio.detach()), 5.0) * advantage * new[p]
                else:
                    term = FORMULAS[name](ratio, advantage)
                stale = math.exp(float(new[p].detach()) - sample.logprobs[p])
                own = own + term * {"none": 1, "tis": min(stale, 2), "mask": stale * (0.5 <= stale <= 2)}[correction]
        total = total + own / (1024 if name == "dr_grpo" else sample.num_sampled)
    return total / len(samples)


def plain_gradient(loss: Callable[[Any], Any]) -> list[Any]:
    model = make_model("qwen").train()
    loss(model).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("correction", ["none", "tis", "mask"])
@pytest.mark.parametrize("name", POLICY)
def test_a_policy_gradient_equals_its_formula(name: str, correction: str) -> None:
    samples = near_the_policy(rollouts())
    learning = Learning(loss=name, options={"correction": correction})
    ours = gradient(learner(), samples, learning)
    assert_close(ours, plain_gradient(lambda model: plain_policy_loss(model, samples, name, correction=correction)))


def near_the_policy(samples: list[Sample], spread: float = 0.4) -> list[Sample]:
    """Recorded logprobs as a slightly older policy's, so that some tokens are clipped and some are not."""
    import random

    import msgspec

    draw = random.Random(7)
    scores = learner().score(samples)
    noisy = [[(v + draw.gauss(0, spread)) * bit for v, bit in zip(row, s.mask)] for row, s in zip(scores, samples)]
    return [msgspec.structs.replace(s, logprobs=row) for s, row in zip(samples, noisy)]


def test_clips_are_at_work_in_these_comparisons() -> None:
    samples = near_the_policy(rollouts())
    learning = Learning(loss="grpo", options={"correction": "none"})
    metrics = learner().update(samples, adapter="a", learning=learning).metrics
    assert 0.05 < metrics["clipped_share"] < 0.95 and metrics["ratio_max"] > 1.28


def test_the_temperature_of_sampling_is_the_temperature_of_learning() -> None:
    samples = rollouts()
    learning = Learning(loss="grpo", options={"temperature": 0.7, "correction": "tis"})
    plain = plain_gradient(lambda m: plain_policy_loss(m, samples, "grpo", correction="tis", temperature=0.7))
    assert_close(gradient(learner(), samples, learning), plain)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_kl_and_entropy_terms_equal_their_formulas(estimator: str) -> None:
    samples = near_the_policy(rollouts())
    by = learner()
    by.update(samples, adapter="a", learning=Learning(loss="cross_entropy", learning_rate=1e-2))
    options = {"correction": "none", "kl_coef": 0.3, "kl_estimator": estimator, "entropy_coef": 0.2}
    ours = gradient(by, samples, Learning(loss="grpo", options=options))
    with by.weights.training("a") as model:
        base = make_model("qwen")
        (
            plain_policy_loss(model, samples, "grpo", correction="none") + plain_extras(model, base, samples, estimator)
        ).backward()
        assert_close(ours, [p.grad for p in model.parameters()])


def plain_extras(model: Any, base: Any, samples: list[Sample], estimator: str) -> Any:
    total: Any = 0.0
    for sample in samples:
        logs = plain_logits(model, sample).log_softmax(-1)
        entropies = -(logs.exp() * logs).sum(-1)
        moves = [a.detach() - b for a, b in zip(plain_logprobs(base, sample), plain_logprobs(model, sample))]
        kl = {"k1": lambda d: -d, "k2": lambda d: d * d / 2, "k3": lambda d: d.exp() - d - 1}[estimator]
        own = [0.3 * kl(d) - 0.2 * h for d, h, bit in zip(moves, entropies, sample.mask) if bit]
        total = total + sum(own) / len(own) / len(samples)
    return total


def test_later_mini_batches_are_clipped_from_where_the_update_began() -> None:
    """The second of two steps: its ratio is new by first weights, its staleness first weights by recorded."""
    samples = near_the_policy(rollouts(8))
    by = learner()
    learning = Learning(loss="grpo", num_minibatches=2, learning_rate=3e-3)
    passes = by.updating(samples, adapter="a", learning=learning)
    for _ in range(3):  # the first weights' logprobs, step one, step two
        next(passes)
    with by.weights.training("a") as model:
        ours = [p.grad.clone() for p in model.parameters()]
        second = [s for s in samples if s.rollout_id in second_half(by, samples)]
        for p in model.parameters():
            p.grad = None
        plain_decoupled(model, make_model("qwen"), second).backward()
        assert_close(ours, [p.grad for p in model.parameters()])


def second_half(by: Any, samples: list[Sample]) -> set[str]:
    import random

    from agentlightning.engine.torch.items import groups, minibatches

    entries = groups(samples, losses.load("grpo", {}), "grpo")
    part = minibatches(entries, 2, random.Random(f"{by.seed} 0"))[1]
    return {entry[0].rollout for entry in part}


def plain_decoupled(model: Any, first: Any, samples: list[Sample]) -> Any:
    total: Any = 0.0
    for sample in samples:
        new, start = plain_logprobs(model, sample), plain_logprobs(first, sample)
        terms = [
            plain_clip(0.2, 0.28)((n - s.detach()).exp(), a) * min(2.0, math.exp(float(s.detach()) - old))
            for n, s, old, a, bit in zip(new, start, sample.logprobs, sample.advantages, sample.mask)
            if bit
        ]
        total = total + sum(terms) / len(terms)
    return total / len(samples)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("name", [*POLICY, "value", "cross_entropy"])
def test_merged_and_unmerged_rows_give_the_same_gradient(name: str, method: str) -> None:
    merged = near_the_policy(rollouts())
    rows = [row for sample in merged for row in unmerged(sample)]
    assert len(rows) > len(merged)
    one, many = learner(method), learner(method)
    for by in (one, many):  # LoRA's B is zero at first, and a head's weights
        by.update(merged, adapter="a", learning=Learning(loss=name, learning_rate=1e-2))
    learning = Learning(loss=name)
    assert_close(gradient(one, merged, learning), gradient(many, rows, learning), tolerance=2e-5)


@pytest.mark.parametrize("name", ["grpo", "cross_entropy", "gspo"])
def test_how_samples_fall_into_passes_changes_nothing(name: str) -> None:
    samples = near_the_policy(rollouts(7))
    whole = gradient(learner(), samples, Learning(loss=name))
    cut = gradient(learner(), samples, Learning(loss=name, max_tokens_per_pass=1))
    assert_close(cut, whole)


def test_cross_entropy_is_the_mean_over_all_trained_tokens() -> None:
    samples = rollouts()

    def plain(model: Any) -> Any:
        logs = [v for s in samples for v, bit in zip(plain_logprobs(model, s), s.mask) if bit]
        return -sum(logs) / len(logs)

    assert_close(gradient(learner(), samples, Learning(loss="cross_entropy")), plain_gradient(plain))


def test_dpo_with_smoothing_and_cross_entropy_equals_its_formula() -> None:
    from torch.nn.functional import logsigmoid

    data = pairs()
    base = make_model("qwen")

    def gain(model: Any, sample: Sample) -> tuple[Any, Any]:
        new, start = sum(plain_logprobs(model, sample)), sum(plain_logprobs(base, sample))
        return new - start.detach(), new / sample.num_sampled

    def plain(model: Any) -> Any:
        total: Any = 0.0
        for pair in data:
            (better, mean), (worse, _) = gain(model, pair.better), gain(model, pair.worse)
            margin = 0.3 * (better - worse)
            total = total - 0.8 * logsigmoid(margin) - 0.2 * logsigmoid(-margin) - 0.5 * mean
        return total / len(data)

    learning = Learning(loss="dpo", options={"beta": 0.3, "label_smoothing": 0.2, "sft_coef": 0.5})
    assert_close(gradient(learner(), data, learning), plain_gradient(plain))


def test_a_critic_learns_the_returns_it_is_given() -> None:
    by, samples = learner("lora"), rollouts()
    for _ in range(40):
        by.update(samples, adapter="critic", learning=Learning(loss="value", learning_rate=2e-2))
    for sample, values in zip(samples, by.values(samples, adapter="critic")):
        wanted = [a * bit for a, bit in zip(sample.advantages or [], sample.mask)]
        assert max(abs(v - w) for v, w in zip(values, wanted)) < 0.35


def test_a_reward_model_puts_the_better_answer_on_top_and_its_version_agrees() -> None:
    by, data = learner("lora"), pairs()
    first = by.update(data, adapter="judge", learning=Learning(loss="reward_model", learning_rate=1e-2))
    assert first.metrics["loss"] == pytest.approx(math.log(2))
    for _ in range(15):
        last = by.update(data, adapter="judge", learning=Learning(loss="reward_model", learning_rate=1e-2))
    assert last.metrics["accuracy"] == 1.0
    samples = [side for pair in data for side in (pair.better, pair.worse)]
    scores = by.rate(samples, adapter="judge")
    assert all(a > b for a, b in zip(scores[::2], scores[1::2]))
    assert by.rate(samples, adapter=by.weights.snapshot("judge")) == pytest.approx(scores)


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'grpo' has no option 'clip_hihg'\. Did you mean 'clip_high'\?"):
        losses.load("grpo", {"clip_hihg": 0.3})
    with pytest.raises(ConfigError, match="Did you mean 'grpo'"):
        losses.load("grpoo", {})
    with pytest.raises(ConfigError, match="correction"):
        losses.load("grpo", {"correction": "some"})


@pytest.mark.parametrize("name", list(losses.LOSSES.names()))
def test_every_loss_of_the_table_loads_with_its_defaults(name: str) -> None:
    assert losses.load(name, {}).kind in ("tokens", "pairs")


def test_samples_that_fit_no_loss_are_refused_by_name() -> None:
    import msgspec

    by, [sample, *_] = learner(), rollouts()
    without = {"logprobs": "has no logprobs", "advantages": "has no advantages"}
    for what, words in without.items():
        odd = msgspec.structs.replace(sample, **{what: None})
        with pytest.raises(DataError, match=f"sample 0 of rollout 'r0', agent 'a' {words}"):
            by.update([odd], adapter="a", learning=Learning(loss="grpo"))
    with pytest.raises(DataError, match="no samples"):
        by.update([], adapter="a", learning=Learning(loss="grpo"))
    with pytest.raises(DataError, match="mask of all 1 samples is 0"):
        masked = msgspec.structs.replace(sample, mask=[0] * len(sample.mask))
        by.update([masked], adapter="a", learning=Learning(loss="grpo"))
    with pytest.raises(DataError, match="learns from Pairs, not from Samples"):
        by.update([sample], adapter="a", learning=Learning(loss="dpo"))
    with pytest.raises(DataError, match="not finite"):
        odd = msgspec.structs.replace(sample, advantages=[math.nan] * len(sample.mask))
        by.update([odd], adapter="a", learning=Learning(loss="grpo"))
    with pytest.raises(DataError, match="vocabulary ends at 383"):
        by.update([msgspec.structs.replace(sample, prompt_ids=[999])], adapter="a", learning=Learning(loss="grpo"))
