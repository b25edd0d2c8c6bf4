"""What rows have in common is computed once, and nothing else about learning changes."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.rollouts_made_here import assert_close, gradient, learner, pairs, rollout, unmerged
from tests.models_made_here import make_model

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning
from agentlightning.engine.torch.learner import Learner
from agentlightning.engine.torch.sharing import beginnings, can_share, shared_lengths
from agentlightning.engine.torch.weights import Weights

LOSSES = ["grpo", "dr_grpo", "rloo", "reinforce++", "ppo", "cispo", "gspo", "cross_entropy"]


def tree(num_tasks: int = 3, num_rollouts: int = 6, *, length: int = 40) -> list[Sample]:
    """Groups of rollouts: one prompt for each task, and the same instruction before all of them."""
    draw = random.Random(3)
    instruction = [draw.randrange(300) for _ in range(length // 2)]
    found: list[Sample] = []
    for task in range(num_tasks):
        prompt = instruction + [draw.randrange(300) for _ in range(length // 2 + 3 * task)]
        for number in range(num_rollouts):
            made = rollout(draw, f"{task}.{number}", num_turns=draw.randrange(1, 4))
            found.append(msgspec.structs.replace(made, prompt_ids=prompt))
    return found


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_gradient_is_that_of_whole_rows(name: str, method: str) -> None:
    """A pass of its own for every row leaves nothing to share."""
    samples = tree()
    apart = gradient(learner(method), samples, Learning(loss=name, max_tokens_per_pass=1))
    assert_close(gradient(learner(method), samples, Learning(loss=name)), apart)


def test_the_gradient_is_that_of_rows_never_merged() -> None:
    samples = tree()
    apart = [row for sample in samples for row in unmerged(sample)]
    learning = Learning(loss="grpo", options={"correction": "none"})
    assert_close(gradient(learner(), samples, learning), gradient(learner(), apart, learning))


def test_eager_attention_shares_too() -> None:
    samples = tree()
    found = [Learner(Weights(_model(attn_implementation=name))) for name in ("sdpa", "eager")]
    assert all(can_share(by.weights.base) for by in found)
    one, other = (gradient(by, samples, Learning(loss="grpo")) for by in found)
    assert_close(one, other)


def test_a_prompt_is_computed_once_for_its_group() -> None:
    samples = tree(length=200)
    metrics = learner().update(samples, adapter="a", learning=Learning(loss="grpo")).metrics
    rows, trie = sum(s.num_tokens for s in samples), _num_trie(samples)
    assert metrics["num_row_tokens"] == rows and rows > 5 * trie
    assert metrics["num_computed_tokens"] < 0.4 * rows, "padding counted"


def test_the_answers_to_one_question_share_it_when_preferences_are_learned() -> None:
    both = [
        msgspec.structs.replace(
            pair,
            better=msgspec.structs.replace(pair.better, prompt_ids=prompt),
            worse=msgspec.structs.replace(pair.worse, prompt_ids=prompt),
        )
        for number, pair in enumerate(pairs(6))
        for prompt in [[(7 * number + i) % 300 for i in range(40)]]
    ]
    by = learner()
    metrics = by.update(both, adapter="a", learning=Learning(loss="dpo")).metrics
    assert metrics["num_computed_tokens"] < 0.75 * metrics["num_row_tokens"]
    apart = gradient(learner(), both, Learning(loss="dpo", max_tokens_per_pass=1))
    assert_close(gradient(learner(), both, Learning(loss="dpo")), apart, tolerance=1e-4)


def test_models_that_forget_or_recompute_read_whole_rows() -> None:
    windowed = _model(sliding_window=8, use_sliding_window=True, max_window_layers=0)
    assert can_share(make_model()) and not can_share(windowed)
    thrifty = Learner(Weights(make_model()), saves_memory=True)
    assert not can_share(thrifty.weights.base)
    metrics = thrifty.update(tree(), adapter="a", learning=Learning(loss="grpo")).metrics
    assert metrics["num_computed_tokens"] >= 0.9 * metrics["num_row_tokens"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([[1] * 9, [2] * 9, [3]]), max_size=4), min_size=1, max_size=12))
def test_every_row_is_in_one_beginning_that_it_begins_with(parts: list[list[list[int]]]) -> None:
    known = [[token for part in row for token in part] for row in parts]
    found = beginnings(known)
    assert sorted(row for one in found for row in one.rows) == list(range(len(known)))
    assert all(known[row][: len(one.ids)] == one.ids for one in found for row in one.rows)
    alone = {row for one in found if len(one.rows) == 1 for row in one.rows}
    lengths = shared_lengths(known)
    assert all(lengths[row] == 0 for row in alone)
    assert sum(lengths) >= sum(one.num_saved for one in found)


def _num_trie(samples: list[Sample]) -> int:
    """Nodes of the tree of all rows, counted plainly."""
    rows = [(*sample.prompt_ids, *sample.completion_ids) for sample in samples]
    return len({row[: place + 1] for row in rows for place in range(len(row))})


def _model(**changes: Any) -> Any:
    """The small random model, with another configuration and the same weights."""
    import copy

    base = make_model()
    config = copy.deepcopy(base.config)
    attention = changes.pop("attn_implementation", "sdpa")
    config.update({"layer_types": None, **changes} if "sliding_window" in changes else changes)
    made = type(base)._from_config(type(config)(**config.to_dict()), attn_implementation=attention)
    made.load_state_dict(base.state_dict())
    return made.eval()
