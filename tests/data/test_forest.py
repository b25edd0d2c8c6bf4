"""Merging on token prefixes: fewer rows, the same training signal, whatever the agents' order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentlightning.data.call import Call, Reply
from agentlightning.data.forest import Forest, merge, unmerged
from agentlightning.data.sample import Sample, Turn
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError


def call(prompt: list[int], completion: list[int], agent: str = "a", **fields: Any) -> Step:
    given: dict[str, Any] = {
        "prompt_ids": prompt,
        "completion_ids": completion,
        "logprobs": [-float(token) for token in completion],
        "call": Call(agent, "m", []),
        "reply": Reply({"role": "assistant", "content": "x"}),
    }
    return Step(id="s", rollout_id="r", index=0, kind="model", agent=agent, started_at=0.0, **(given | fields))


def rollout(*steps: Step) -> Trajectory:
    numbered = [msgspec.structs.replace(step, index=index) for index, step in enumerate(steps)]
    return Trajectory(id="r", agent_id="a", task="t", input="q", timestamp=0.0, policy_id="p-1", steps=numbered)


def test_a_conversation_is_one_row_with_its_observations_masked() -> None:
    forest = merge(rollout(call([1, 2], [3, 4]), call([1, 2, 3, 4, 5], [6])))
    assert forest.samples == [
        Sample(
            prompt_ids=[1, 2],
            completion_ids=[3, 4, 5, 6],
            mask=[1, 1, 0, 1],
            logprobs=[-3.0, -4.0, 0.0, -6.0],
            agent="a",
            rollout_id="r",
            segment_id=0,
            policy_id="p-1",
            turns=[Turn(0, 0, 2), Turn(1, 3, 4)],
        )
    ]
    assert (forest.num_row_tokens, forest.num_trie_tokens, forest.waste) == (6, 6, 1.0)
    assert unmerged(rollout(call([1, 2], [3, 4]), call([1, 2, 3, 4, 5], [6]))).num_row_tokens == 10


def test_interleaved_sub_agents_merge_into_a_row_each() -> None:
    steps = [
        call([1], [2], "planner"),
        call([7], [8], "writer"),
        call([1, 2, 3], [4], "planner"),
        call([7, 8, 9], [10], "writer"),
    ]
    planner, writer = merge(rollout(*steps)).samples
    assert (planner.agent, planner.completion_ids, planner.mask) == ("planner", [2, 3, 4], [1, 0, 1])
    assert (writer.agent, writer.completion_ids, writer.mask) == ("writer", [8, 9, 10], [1, 0, 1])
    assert merge(rollout(*steps), agents=["writer"]).samples == [msgspec.structs.replace(writer, segment_id=0)]


def test_equal_tokens_of_two_agents_never_merge() -> None:
    forest = merge(rollout(call([1], [2], "a"), call([1, 2, 3], [4], "b")))
    assert [sample.agent for sample in forest.samples] == ["a", "b"]
    assert forest.num_trie_tokens == forest.num_row_tokens == 6


def test_a_rewritten_history_opens_a_row_whose_history_is_not_trained_again() -> None:
    forest = merge(rollout(call([1, 2], [3, 4]), call([1, 2, 3, 9], [5])))
    first, second = forest.samples
    assert (first.mask, second.prompt_ids, second.mask) == ([1, 1], [1, 2, 3, 9], [1])
    assert (forest.num_row_tokens, forest.num_trie_tokens) == (9, 6)
    assert forest.waste == 1.5


def test_a_call_continues_the_longest_row_that_fits() -> None:
    short, long = call([1], [2]), call([1, 5], [6])
    forest = merge(rollout(short, long, call([1, 5, 6, 7], [8]), call([1, 2, 7], [8])))
    assert [sample.completion_ids for sample in forest.samples] == [[2, 7, 8], [6, 7, 8]]


def test_two_answers_to_one_prompt_are_two_rows() -> None:
    assert [s.completion_ids for s in merge(rollout(call([1], [2]), call([1], [3]))).samples] == [[2], [3]]


def test_ids_may_lie_in_the_reply() -> None:
    reply = Reply({"role": "assistant", "content": "x"}, prompt_ids=[1], completion_ids=[2], logprobs=[-2.0])
    [sample] = merge(rollout(call([], [], prompt_ids=None, completion_ids=None, logprobs=None, reply=reply))).samples
    assert (sample.prompt_ids, sample.completion_ids, sample.logprobs) == ([1], [2], [-2.0])


def test_a_step_without_ids_is_refused_with_what_to_do() -> None:
    bare = call([1], [2], prompt_ids=None, completion_ids=None, logprobs=None, endpoint="https://api.openai.com/v1")
    with pytest.raises(DataError, match=r"step 1 of rollout r has no token ids.*api\.openai\.com.*set models\.policy"):
        merge(rollout(call([1], [2]), bare))


def test_steps_of_agents_that_are_not_trained_need_no_ids() -> None:
    bare = call([1], [2], "hired", prompt_ids=None, completion_ids=None, logprobs=None)
    assert len(merge(rollout(call([1], [2]), bare), agents=["a"]).samples) == 1


def test_failed_calls_and_empty_answers_train_nothing() -> None:
    failed = call([1], [2], error="HTTP 500", prompt_ids=None, completion_ids=None)
    assert merge(rollout(failed, call([1], []), call([1], [3], reply=None))) == Forest([], 0, 0)


def test_missing_logprobs_leave_the_whole_row_without_and_too_few_are_refused() -> None:
    [sample] = merge(rollout(call([1], [2]), call([1, 2], [3], logprobs=None))).samples
    assert sample.logprobs is None
    with pytest.raises(DataError, match="2 completion ids and 1 logprobs"):
        merge(rollout(call([1], [2, 3], logprobs=[-1.0])))


def test_an_advantage_reaches_sampled_tokens_only() -> None:
    [sample] = merge(rollout(call([1], [2, 3]), call([1, 2, 3, 4], [5]))).samples
    assert sample.with_advantage(0.5).advantages == [0.5, 0.5, 0.0, 0.5]
    assert sample.with_turn_advantages({0: 1.0, 1: -1.0}).advantages == [1.0, 1.0, 0.0, -1.0]


# A few tokens only, so that prefixes collide in every way they can.
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=3)


@st.composite
def conversations(draw: st.DrawFn, agent: str) -> list[Step]:
    """Calls of one conversation, whose history is now and then rewritten."""
    history, steps = list(draw(tokens)), list[Step]()
    for _ in range(draw(st.integers(1, 4))):
        completion = draw(tokens)
        steps.append(call(list(history), completion, agent))
        history = [*history, *completion, *draw(tokens)]
        if draw(st.integers(0, 4)) == 0:
            history = history[draw(st.integers(1, len(history))) - 1 :]
    return steps


@st.composite
def rollouts(draw: st.DrawFn) -> Trajectory:
    """Several conversations of two agents, interleaved at random."""
    waiting = [draw(conversations(draw(st.sampled_from("ab")))) for _ in range(draw(st.integers(1, 4)))]
    steps: list[Step] = []
    while waiting := [steps_left for steps_left in waiting if steps_left]:
        steps.append(waiting[draw(st.integers(0, len(waiting) - 1))].pop(0))
    return rollout(*steps)


def begun_with(token: int, step: Step) -> Step:
    return msgspec.structs.replace(step, prompt_ids=[token, *(step.prompt_ids or [])])


def trained(forest: Forest) -> Counter[Any]:
    """Every sampled token with all that came before it, its agent, step and logprob."""
    found: Counter[Any] = Counter()
    for sample in forest.samples:
        ids = [*sample.prompt_ids, *sample.completion_ids]
        step_of = {place: turn.step for turn in sample.turns for place in range(turn.start, turn.end)}
        for place, bit in enumerate(sample.mask):
            if bit:
                assert sample.logprobs is not None
                context = tuple(ids[: len(sample.prompt_ids) + place + 1])
                found[sample.agent, step_of[place], context, sample.logprobs[place]] += 1
    return found


@settings(max_examples=300, deadline=None)
@given(rollouts())
def test_every_sampled_token_is_trained_once_in_its_own_context_and_agent(trajectory: Trajectory) -> None:
    expected: Counter[Any] = Counter()
    for step in trajectory.steps:
        assert step.prompt_ids and step.completion_ids and step.logprobs
        for place, logprob in enumerate(step.logprobs):
            context = (*step.prompt_ids, *step.completion_ids[: place + 1])
            expected[step.agent, step.index, context, logprob] += 1
    merged, apart = merge(trajectory), unmerged(trajectory)
    assert trained(merged) == trained(apart) == expected
    assert max(expected.values()) == 1
    assert len(merged.samples) <= len(apart.samples) and merged.num_row_tokens <= apart.num_row_tokens
    assert merged.num_trie_tokens == apart.num_trie_tokens <= merged.num_row_tokens


@settings(max_examples=200, deadline=None)
@given(rollouts())
def test_rows_are_well_formed(trajectory: Trajectory) -> None:
    for number, sample in enumerate(merge(trajectory).samples):
        assert sample.segment_id == number
        assert len(sample.mask) == len(sample.completion_ids) == len(sample.logprobs or [])
        assert sample.mask[0] == 1 == sample.mask[-1]
        assert sum(turn.end - turn.start for turn in sample.turns) == sample.num_sampled
        assert all(
            logprob == (-float(token) if bit else 0.0)
            for token, bit, logprob in zip(sample.completion_ids, sample.mask, sample.logprobs or [], strict=True)
        )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_merging_does_not_depend_on_how_conversations_interleave(data: st.DataObject) -> None:
    """Two agents', or two of one agent that begin differently."""
    mine = data.draw(conversations("a"))
    other = data.draw(conversations("b") | conversations("a").map(lambda steps: [begun_with(9, s) for s in steps]))
    shuffled: list[Step] = []
    left = [list(mine), list(other)]
    while any(left):
        side = data.draw(st.sampled_from([i for i in (0, 1) if left[i]]))
        shuffled.append(left[side].pop(0))

    def rows(forest: Forest) -> list[Any]:
        return sorted((s.agent, s.prompt_ids, s.completion_ids, s.mask, s.logprobs) for s in forest.samples)

    assert rows(merge(rollout(*mine, *other))) == rows(merge(rollout(*shuffled)))
