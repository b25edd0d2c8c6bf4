"""How an adapter learns: whole steps or none, exactly again from a checkpoint, and every token on record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.engine.rollouts_made_here import assert_close, gradient, learner, pairs, rollouts
from tests.models_made_here import make_model, make_tokenizer

from agentlightning.engine.base import Learning
from agentlightning.engine.torch.learner import Learner
from agentlightning.engine.torch.progress import learning_rate
from agentlightning.engine.torch.weights import AdapterPlan, Weights
from agentlightning.errors import ModelError

CROSS_ENTROPY = Learning(loss="cross_entropy", learning_rate=1e-2)
METHODS = ["lora", "full"]


@pytest.mark.parametrize("method", METHODS)
def test_learning_lowers_the_loss(method: str) -> None:
    by, samples = learner(method), rollouts()
    losses = [by.update(samples, adapter="a", learning=CROSS_ENTROPY).metrics["loss"] for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    update = by.update(samples, adapter="a", learning=CROSS_ENTROPY)
    assert update.num_steps == 1 and update.metrics["num_tokens"] == sum(s.num_sampled for s in samples)
    assert update.metrics["num_row_tokens"] == sum(s.num_tokens for s in samples)


@pytest.mark.parametrize("method", METHODS)
def test_two_adapters_trained_in_turns_are_as_if_alone(method: str) -> None:
    both, alone = learner(method), learner(method)
    data = {"a": rollouts(seed=1), "b": rollouts(seed=2)}
    for _ in range(3):
        for adapter in ("a", "b"):
            both.update(data[adapter], adapter=adapter, learning=CROSS_ENTROPY)
    for _ in range(3):
        alone.update(data["b"], adapter="b", learning=CROSS_ENTROPY)
    assert both.weights.snapshot("b") == alone.weights.snapshot("b") != both.weights.snapshot("a")


def test_an_update_steps_as_torchs_own_adamw_would() -> None:
    import torch

    by, samples, model = learner("full"), rollouts(), make_model()
    own = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(3):
        grads = gradient(by, samples, CROSS_ENTROPY)
        norm = float(torch.cat([g.flatten() for g in grads]).norm())
        for parameter, grad in zip(model.parameters(), grads):
            parameter.grad = grad / max(1.0, norm)
        own.step()
        update = by.update(samples, adapter="a", learning=CROSS_ENTROPY)
        assert update.metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)
        ours = [p.detach() for p in by.weights.parameters("a")]
        assert_close(ours, [p.detach() for p in model.parameters()], tolerance=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_adapter_goes_on_exactly(method: str, tmp_path: Path) -> None:
    learning = Learning(loss="grpo", num_minibatches=2, learning_rate=1e-2, warmup_steps=5, total_steps=20)
    one, samples = learner(method, dropout=0.1 if method == "lora" else 0.0), rollouts(8)
    for _ in range(2):
        one.update(samples, adapter="a", learning=learning)
    one.checkpoint("a", tmp_path / "here")
    other = learner(method, seed=9, dropout=0.1 if method == "lora" else 0.0)
    other.restore("a", tmp_path / "here")
    for _ in range(2):
        metrics = [by.update(samples, adapter="a", learning=learning).metrics for by in (one, other)]
        assert metrics[0] == metrics[1]
    assert one.weights.snapshot("a") == other.weights.snapshot("a")


def test_a_checkpoint_carries_the_start_and_the_head(tmp_path: Path) -> None:
    one, data = learner("lora"), pairs()
    one.update(rollouts(), adapter="a", learning=CROSS_ENTROPY)
    start = one.weights.snapshot("a")
    one.start_from("judge", start)
    learning = Learning(loss="reward_model", learning_rate=1e-2)
    for _ in range(2):
        one.update(data, adapter="judge", learning=learning)
    one.checkpoint("judge", tmp_path / "here")
    other = learner("lora")
    other.restore("judge", tmp_path / "here")
    assert other.weights.start_of("judge") == start
    assert other.rate([data[0].better], adapter="judge") == one.rate([data[0].better], adapter="judge")
    dpo = Learning(loss="dpo", learning_rate=1e-2)
    results = [by.update(data, adapter="judge", learning=dpo).metrics["loss"] for by in (one, other)]
    assert results[0] == results[1]


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no checkpoint that can be read"):
        learner().restore("a", tmp_path)
    one = learner("full")
    one.checkpoint("a", tmp_path / "full")
    (tmp_path / "full" / "optimizer.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="holds no checkpoint that can be read"):
        learner("full").restore("a", tmp_path / "full")


def test_learning_after_start_from_has_a_fresh_optimiser() -> None:
    by, fresh, samples = learner("lora"), learner("lora"), rollouts()
    by.update(samples, adapter="a", learning=CROSS_ENTROPY)
    by.start_from("a", "")
    results = [one.update(samples, adapter="a", learning=CROSS_ENTROPY) for one in (by, fresh)]
    assert results[0].metrics == results[1].metrics


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_not_taken_and_its_sample_is_named(what: str) -> None:
    by, samples = learner("full"), rollouts()
    by.update(samples, adapter="a", learning=CROSS_ENTROPY)
    before = by.weights.snapshot("a")
    if what == "loss":  # the ratio overflows
        odd = msgspec.structs.replace(samples[2], logprobs=[-200.0 * bit for bit in samples[2].mask]).with_advantage(-1)
    else:  # the loss does not, its square does
        odd = samples[2].with_advantage(3e38)
    given = [*samples[:2], odd, *samples[3:]]
    options = {"correction": "none", "normalise": "tokens"}
    with pytest.raises(ModelError, match=r"the (loss|gradient) is not a finite number: sample 0 of rollout 'r2'"):
        by.update(given, adapter="a", learning=Learning(loss="rloo", options=options))
    assert by.weights.snapshot("a") == before
    assert by.update(samples, adapter="a", learning=CROSS_ENTROPY).num_steps == 1


def test_sampling_between_passes_does_not_disturb_learning() -> None:
    import torch

    plain, disturbed, samples = learner("lora"), learner("lora"), rollouts()
    first = [by.update(samples, adapter="a", learning=CROSS_ENTROPY) for by in (plain, disturbed)]
    assert first[0] == first[1]
    version = disturbed.weights.snapshot("a")
    rests: list[int] = []

    def between() -> None:
        rests.append(1)
        for name in ("", "a", version):
            with torch.no_grad(), disturbed.weights.using(name) as model:
                model(torch.arange(9)[None])

    learning = msgspec.structs.replace(CROSS_ENTROPY, max_tokens_per_pass=40)
    plain.update(samples, adapter="a", learning=learning)
    disturbed.update(samples, adapter="a", learning=learning, between=between)
    assert len(rests) > 2 and plain.weights.snapshot("a") == disturbed.weights.snapshot("a")


def test_an_update_that_is_closed_early_leaves_the_last_whole_step() -> None:
    by, samples = learner("lora"), rollouts()
    by.update(samples, adapter="a", learning=CROSS_ENTROPY)
    before = by.weights.snapshot("a")
    passes = by.updating(samples, adapter="a", learning=CROSS_ENTROPY)
    next(passes)
    passes.close()
    assert by.weights.snapshot("a") == before
    assert all(p.grad is None for p in by.weights.parameters("a"))


def test_saving_memory_changes_no_gradient() -> None:
    samples = rollouts()
    thrifty = Learner(Weights(make_model(), plan=AdapterPlan(method="full")), saves_memory=True)
    assert_close(gradient(thrifty, samples, CROSS_ENTROPY), gradient(learner("full"), samples, CROSS_ENTROPY))


def test_every_trained_token_is_on_record(tmp_path: Path) -> None:
    place = tmp_path / "tokens.jsonl"
    by = Learner(Weights(make_model(), make_tokenizer(), plan=AdapterPlan()))
    samples = rollouts()
    options = {"correction": "mask", "max_weight": 1.5}
    by.update(samples, adapter="a", learning=Learning(loss="grpo", options=options, dump=str(place)))
    lines = [json.loads(line) for line in place.read_text().splitlines()]
    assert len(lines) == sum(s.num_sampled for s in samples)
    scores = by.score(samples)
    for line in lines:
        sample = samples[int(line["rollout"][1:])]
        where = line["place"]
        assert line["id"] == sample.completion_ids[where] and line["token"]
        assert line["old"] == pytest.approx(sample.logprobs[where])
        assert line["new"] == pytest.approx(scores[int(line["rollout"][1:])][where], abs=1e-4)
        assert line["advantage"] == pytest.approx(sample.advantages[where])
        assert line["weight"] == pytest.approx(1 / len(samples) / sample.num_sampled)
        assert (line["why"] == "too stale") == (line["mask"] == 0)
    assert {line["why"] for line in lines} >= {"too stale", "trained"}


def test_scores_are_the_logprobs_of_a_fresh_pass() -> None:
    import torch

    by, samples = learner("lora"), rollouts()
    by.update(samples, adapter="a", learning=CROSS_ENTROPY)
    version = by.weights.snapshot("a")
    for sample, found in zip(samples, by.score(samples, weights=version)):
        ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
        with torch.no_grad(), by.weights.using(version) as model:
            logs = model(ids).logits[0, len(sample.prompt_ids) - 1 : -1].log_softmax(-1)
        wanted = [float(logs[i, id]) * bit for i, (id, bit) in enumerate(zip(sample.completion_ids, sample.mask))]
        assert found == pytest.approx(wanted, abs=1e-5)


def test_rows_packed_end_to_end_are_read_as_rows_apart() -> None:
    """As an attention that knows their borders does it; transformers builds the same from position ids for others."""
    import torch

    from agentlightning.engine.torch import forward
    from agentlightning.engine.torch.items import item
    from agentlightning.engine.torch.packing import batch

    model = make_model()
    rows = [item(sample).row for sample in rollouts()]
    with torch.no_grad():
        apart, packed = (batch(rows, device="cpu", is_packed=flag) for flag in (False, True))
        assert packed.input_ids.shape[0] == 1 and packed.input_ids.numel() < apart.input_ids.numel()
        assert torch.allclose(forward.logits(model, apart), forward.logits(model, packed), atol=1e-4)


def test_the_schedule_warms_up_and_runs_down() -> None:
    learning = Learning(loss="grpo", learning_rate=1.0, warmup_steps=4, total_steps=14, final_rate=0.1)
    rates = [learning_rate(learning, step) for step in (0, 3, 4, 9, 14, 99)]
    assert rates == pytest.approx([0.25, 1.0, 1.0, 0.55, 0.1, 0.1])
    assert learning_rate(Learning(loss="grpo", learning_rate=1.0), 50) == 1.0


def test_a_sample_longer_than_the_context_is_refused() -> None:
    by = Learner(Weights(make_model(max_context_tokens=16)))
    with pytest.raises(ModelError, match="tokens, and the model's context holds 16"):
        by.update(rollouts(num_turns=3), adapter="a", learning=CROSS_ENTROPY)


TOO_LITTLE_MEMORY = """
import resource
from tests.engine.rollouts_made_here import learner, rollouts
import msgspec
from agentlightning.engine.base import Learning
from agentlightning.errors import ModelError
by, [sample, *_] = learner("lora"), rollouts()
by.update([sample], adapter="a", learning=Learning(loss="cross_entropy"))
before = by.weights.snapshot("a")
long = [msgspec.structs.replace(sample, prompt_ids=[1 + i] * 2000, rollout_id=str(i)) for i in range(200)]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))
try:
    by.update(long, adapter="a", learning=Learning(loss="cross_entropy", max_tokens_per_pass=10**9))
except ModelError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert by.weights.snapshot("a") == before
by.update([sample], adapter="a", learning=Learning(loss="cross_entropy"))
print("goes on")
"""


def test_running_out_of_memory_says_what_to_lower() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TOO_LITTLE_MEMORY], env=environment, capture_output=True, text=True)
    assert "out of memory while learning" in done.stdout, done.stderr
    assert "Lower max_tokens_per_pass (now 1000000000" in done.stdout and "goes on" in done.stdout


def test_qlora_learns_on_a_cpu(tmp_path: Path) -> None:
    """A base of four bits: read from a folder, trained, saved, and merged into a model of full precision."""
    import torch
    from transformers import AutoModelForCausalLM

    make_model(hidden_size=64).save_pretrained(str(tmp_path / "base"))
    plan = AdapterPlan(method="qlora", rank=8)
    base: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "base", quantization_config=plan.quantisation())
    by, samples = Learner(Weights(base, plan=plan)), rollouts()
    assert any(type(m).__name__ == "Linear4bit" for m in base.modules())
    losses = [by.update(samples, adapter="a", learning=CROSS_ENTROPY).metrics["loss"] for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    version = by.weights.snapshot("a")
    by.weights.save(version, tmp_path / "adapter")
    assert by.weights.load(tmp_path / "adapter") == version
    by.weights.export(version, tmp_path / "whole")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    ids = torch.arange(5, 25)[None]
    with torch.no_grad(), by.weights.using(version) as ours:
        assert torch.allclose(model(ids).logits, ours(ids).logits, atol=2e-2)


def test_passes_hold_few_enough_tokens_and_little_padding() -> None:
    import random

    from agentlightning.engine.torch.packing import passes

    draw = random.Random(0)
    lengths = [[draw.randrange(1, 300) for _ in range(draw.choice((1, 2)))] for _ in range(200)]
    cut = passes(lengths, max_tokens=1000, max_padding=128)
    assert sorted(index for part in cut for index in part) == list(range(200))
    for part in cut:
        rows = [length for index in part for length in lengths[index]]
        padded = len(rows) * max(rows)
        assert padded <= 1000 or len(part) == 1
        assert padded - sum(rows) <= 128 or len(part) == 1
