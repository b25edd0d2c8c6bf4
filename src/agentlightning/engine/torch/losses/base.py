"""What losses see (flat tensors, one entry for each trained token) and what they give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["tokens", "pairs"]
Need = Literal["logprobs", "old", "advantages", "proximal", "reference", "entropy", "values", "scores"]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Trained tokens of some rows, row after row. What a loss did not say it needs is None."""

    rows: Tensor
    """Of each token: which row it is in, from 0. In pairs, row 2i was preferred to row 2i + 1."""
    turns: Tensor
    """Of each token: which sampled answer it is in, from 0."""
    logprobs: Tensor | None = None
    """Under the weights that learn; has a gradient."""
    old: Tensor | None = None
    """As recorded by who sampled."""
    proximal: Tensor | None = None
    """Under the weights with which the update began."""
    reference: Tensor | None = None
    advantages: Tensor | None = None
    entropy: Tensor | None = None
    """Of the distribution each token was drawn from; has a gradient if the loss needs it."""
    values: Tensor | None = None
    """The value head's, before the token was chosen."""
    scores: Tensor | None = None
    """The value head's at the end of each row: one for each row."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The loss of each token (or pair). The mean over them, or over rollouts, is taken by the learner."""

    loss: Tensor
    ratio: Tensor | None = None
    is_clipped: Tensor | None = None
    is_masked: Tensor | None = None
    """Left out, because the weights that sampled it were too far away."""
    is_right: Tensor | None = None
    """Of pairs: the better one is on top."""


class Loss(Protocol):
    """What each file here has one of."""

    kind: ClassVar[Kind]

    @property
    def needs(self) -> frozenset[Need]: ...

    @property
    def temperature(self) -> float:
        """At which logprobs are computed."""
        ...

    @property
    def reference(self) -> str | None:
        """Weights to compare with; None: those the adapter started from."""
        ...

    @property
    def normalise(self) -> str:
        """`tokens`: mean over all tokens. `rollout`: mean over each rollout's tokens, then over rollouts.
        `constant`: sum over a rollout's tokens by `max_tokens`, mean over rollouts."""
        ...

    @property
    def max_tokens(self) -> int: ...

    def terms(self, tokens: Tokens) -> Terms: ...
