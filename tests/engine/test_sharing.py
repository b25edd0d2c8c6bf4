"""What rows have in common is computed once, and nothing else about learning changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, pairwise
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
from agentlightning.engine.torch.packing import branches
from agentlightning.engine.torch.sharing import Tree, can_share
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


def test_a_prompt_is_computed_once_for_its_group() -> None:
    samples = tree(length=200)
    metrics = learner().update(samples, adapter="a", learning=Learning(loss="grpo")).metrics
    rows, trie = sum(s.num_tokens for s in samples), _num_trie(samples)
    assert metrics["num_row_tokens"] == rows and rows > 5 * trie
    assert metrics["num_computed_tokens"] < 1.5 * trie, "padding counted"


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


def test_a_sliding_window_is_no_hindrance() -> None:
    """A mask of the model's own, and a cache that forgets."""
    windowed = Learner(Weights(_model(sliding_window=8, use_sliding_window=True, max_window_layers=0)))
    samples = tree()
    metrics = windowed.update(samples, adapter="b", learning=Learning(loss="grpo")).metrics
    assert metrics["num_computed_tokens"] < 0.7 * metrics["num_row_tokens"]
    apart = gradient(windowed, samples, Learning(loss="grpo", max_tokens_per_pass=1))
    assert_close(gradient(windowed, samples, Learning(loss="grpo")), apart)


def test_models_that_recompute_read_whole_rows() -> None:
    thrifty = Learner(Weights(make_model()), saves_memory=True)
    assert can_share(make_model()) and not can_share(thrifty.weights.base)
    metrics = thrifty.update(tree(), adapter="a", learning=Learning(loss="grpo")).metrics
    assert metrics["num_computed_tokens"] >= 0.9 * metrics["num_row_tokens"]


def test_rows_that_share_little_are_sorted_by_length_as_before() -> None:
    draw = random.Random(0)
    groups = [[[draw.randrange(300) for _ in range(draw.randrange(5, 60))]] for _ in range(40)]
    assert branches(groups, 500) is None
    alike = [[[1] * 50 + ids] for [ids] in groups]
    cut = branches(alike, 500)
    assert cut is not None and sorted(index for part in cut for index in part) == list(range(40))
    assert all(Tree([alike[index][0] for index in part]).num_tokens <= 500 for part in cut)


def _joined(parts: list[list[int]]) -> list[int]:
    return [token for part in parts for token in part]


ROWS = st.lists(
    st.lists(st.sampled_from([[1] * 5, [2] * 3, [3]]), min_size=1, max_size=4).map(_joined),
    min_size=1,
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 12))
def test_every_row_is_a_path_through_the_levels(rows: list[list[int]], price: int) -> None:
    levels = Tree(rows).levels(price)
    for place, row in enumerate(rows):
        path = [(level, level.of_row[place]) for level in levels if place in level.of_row]
        assert [level for level, _ in path] == levels[: len(path)], "without a gap"
        whole = [token for level, segment in path for token in level.segments[segment]]
        assert whole[: len(row)] == row and len(path[-1][0].segments) > path[-1][1]
        for (_, parent), (level, segment) in pairwise(path):
            assert level.parents[segment] == parent
    for level, after in pairwise(levels):
        reached = {level.of_row[place] for place in after.of_row}
        assert all(len(level.segments[segment]) == after.start - level.start for segment in reached), "nothing padded"


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 12))
def test_no_other_cuts_would_be_cheaper(rows: list[list[int]], price: int) -> None:
    levels = Tree(rows).levels(price)
    longest = max(map(len, rows))
    depths = range(1, longest)
    others = (cuts for number in range(min(3, longest)) for cuts in combinations(depths, number))
    assert _cost(rows, [level.start for level in levels[1:]], price) <= min(_cost(rows, c, price) for c in others)


def _cost(rows: list[list[int]], cuts: Sequence[int], price: int) -> int:
    """Counted plainly: different beginnings that reach into each level."""
    total = 0
    for start, end in pairwise([0, *cuts, max(map(len, rows))]):
        there = {tuple(row[:end]) for row in rows if len(row) > start}
        ends = {one for one in there if not any(one != other and other[: len(one)] == one for other in there)}
        total += len(ends) * (end - start) + price
    return total


def _num_trie(samples: list[Sample]) -> int:
    """Nodes of the tree of all rows, counted plainly."""
    rows = [(*sample.prompt_ids, *sample.completion_ids) for sample in samples]
    return len({row[: place + 1] for row in rows for place in range(len(row))})


def _model(**changes: Any) -> Any:
    """The small random model, with another configuration and the same weights."""
    import copy

    base = make_model()
    config = copy.deepcopy(base.config)
    config.update({"layer_types": None, **changes} if "sliding_window" in changes else changes)
    made = type(base)._from_config(type(config)(**config.to_dict()), attn_implementation="sdpa")
    made.load_state_dict(base.state_dict())
    return made.eval()
