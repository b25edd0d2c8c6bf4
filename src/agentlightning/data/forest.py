"""A rollout's model calls become as few training rows as its token ids allow, with every sampled token in one of them.

A call whose prompt begins with a whole earlier row of its agent continues that row; any number of rows stay open, so
interleaved conversations merge too. Ids are compared, never text: where a chat template rewrote history, a row begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

import msgspec

from agentlightning.data.sample import Sample, Turn
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError


class Forest(msgspec.Struct, frozen=True):
    """The samples of a rollout, and how much they repeat."""

    samples: list[Sample]
    num_row_tokens: int
    """Tokens in all rows: what a trainer without prefix sharing computes."""
    num_trie_tokens: int
    """Tokens when a prefix that rows of one agent share counts once: the least there is to compute."""

    @property
    def waste(self) -> float:
        """Row tokens per trie token; 1.0 is none."""
        return self.num_row_tokens / self.num_trie_tokens if self.num_trie_tokens else 1.0


class Sampled(msgspec.Struct, frozen=True):
    """A model call by its token ids, as the engine gave them."""

    step: int
    agent: str
    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float] | None
    policy_id: str


def merge(trajectory: Trajectory, agents: Collection[str] | None = None) -> Forest:
    """The rollout's samples, merged on exact token prefix per agent, in the order they began.

    A call continues the longest row that its prompt begins with. `agents` (None: all) are those to train. Failed calls
    and empty answers have nothing to train. DataError for a call without token ids, or with ids that do not fit.
    """
    rows: list[_Row] = []
    for call in sampled_calls(trajectory, agents):
        fitting = [row for row in rows if row.agent == call.agent and row.ids == call.prompt_ids[: len(row.ids)]]
        row = max(fitting, key=lambda r: len(r.ids), default=None)
        if row is None:
            row = _Row(call)
            rows.append(row)
        row.add(call)
    return _forest(row.sample(trajectory.id, number) for number, row in enumerate(rows))


def unmerged(trajectory: Trajectory, agents: Collection[str] | None = None) -> Forest:
    """One sample per model call: the same training signal as `merge`, with all prompts repeated."""
    samples: list[Sample] = []
    for number, call in enumerate(sampled_calls(trajectory, agents)):
        row = _Row(call)
        row.add(call)
        samples.append(row.sample(trajectory.id, number))
    return _forest(samples)


def sampled_calls(trajectory: Trajectory, agents: Collection[str] | None = None) -> Iterator[Sampled]:
    """The model calls there is something to learn from. Raises DataError as `merge` does."""
    for step in trajectory.model_steps:
        if (agents is not None and step.agent not in agents) or step.error or step.reply is None:
            continue
        call = _sampled(step, trajectory)
        if call.completion_ids:
            yield call


def _sampled(step: Step, trajectory: Trajectory) -> Sampled:
    source = step if step.completion_ids is not None else step.reply
    assert source is not None
    prompt_ids, completion_ids, logprobs = source.prompt_ids, source.completion_ids, source.logprobs
    place = f"step {step.index} of rollout {trajectory.id}"
    if prompt_ids is None or completion_ids is None:
        raise DataError(
            f"{place} has no token ids, so it cannot train a policy. The model was called at "
            f"{step.endpoint or 'an endpoint that was not recorded'}. Train through the engine: set models.policy; or "
            "use apo, which needs no ids. (Ids are also dropped where a secret or personal data was taken out.)"
        )
    if logprobs is not None and len(logprobs) != len(completion_ids):
        raise DataError(
            f"{place} has {len(completion_ids)} completion ids and {len(logprobs)} logprobs, not one for each. "
            "Whoever served the model cut one of them."
        )
    policy_id = step.policy_id or trajectory.policy_id
    return Sampled(step.index, step.agent, prompt_ids, completion_ids, logprobs, policy_id)


class _Row:
    """A sample being grown."""

    def __init__(self, first: Sampled) -> None:
        self.agent = first.agent
        self.ids = list(first.prompt_ids)
        self._num_prompt = len(first.prompt_ids)
        self._policy_id = first.policy_id
        self._mask: list[int] = []
        self._logprobs: list[float] = []
        self._has_logprobs = True
        self._turns: list[Turn] = []

    def add(self, call: Sampled) -> None:
        """Put what the prompt has beyond this row as observations, then the sampled tokens."""
        observed = call.prompt_ids[len(self.ids) :]
        start = len(self._mask) + len(observed)
        end = start + len(call.completion_ids)
        self.ids += [*observed, *call.completion_ids]
        self._mask += [0] * len(observed) + [1] * len(call.completion_ids)
        self._logprobs += [0.0] * len(observed) + (call.logprobs or [0.0] * len(call.completion_ids))
        self._has_logprobs = self._has_logprobs and call.logprobs is not None
        self._turns.append(Turn(call.step, start, end))

    def sample(self, rollout_id: str, number: int) -> Sample:
        return Sample(
            prompt_ids=self.ids[: self._num_prompt],
            completion_ids=self.ids[self._num_prompt :],
            mask=self._mask,
            logprobs=self._logprobs if self._has_logprobs else None,
            agent=self.agent,
            rollout_id=rollout_id,
            segment_id=number,
            policy_id=self._policy_id,
            turns=self._turns,
        )


def _forest(samples: Iterable[Sample]) -> Forest:
    kept = list(samples)
    return Forest(kept, sum(sample.num_tokens for sample in kept), _trie_tokens(kept))


def _trie_tokens(samples: list[Sample]) -> int:
    """Nodes of the trie of all rows: sorted, each row adds what it does not share with the row before."""
    rows = sorted((sample.agent, [*sample.prompt_ids, *sample.completion_ids]) for sample in samples)
    shared = sum(_shared(left, right) for (one, left), (other, right) in pairwise(rows) if one == other)
    return sum(len(row) for _, row in rows) - shared


def _shared(left: list[int], right: list[int]) -> int:
    """How many tokens two rows begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
