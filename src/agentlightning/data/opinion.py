"""What a person said about rollouts, and the record it is kept as: a rating of one, or a choice between two."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from agentlightning.data.record import Record, make_record, new_id
from agentlightning.errors import DataError

REWARD_NAME = "human_feedback"


class Feedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person said: of one rollout (a rating, a comment, a correction), or of two (a choice)."""

    kind: Literal["rating", "choice", "comment"] = "rating"
    rollout: str = ""
    """The one that was rated."""
    value: float | None = None
    """A rating, brought to 0–1: 1 to 5 evenly, thumbs as 0 or 1."""
    scale: Any = None
    """What the rater saw, such as [1, 5]; [false, true] for thumbs."""
    better: str = ""
    """A choice: the rollout that was preferred, …"""
    worse: str = ""
    """… and the one it was preferred to."""
    rater: str = ""
    comment: str = ""
    correction: Any = None
    """The answer it should have given."""
    at: float = 0.0
    """Seconds since the epoch."""
    name: str = "reward"
    """These as in a Reward, which a rating also reads as."""
    source: str = "human"
    reason: str | None = None
    is_metric: bool = False


def rating_record(
    rollout: str,
    rating: float | None,
    scale: tuple[float, float] = (0, 1),
    *,
    run: str,
    rater: str = "",
    comment: str = "",
    correction: Any = None,
) -> Record:
    """One rollout's rating on a scale, kept as a number from 0 to 1; without a rating, a comment or correction of it.

    It also reads as a Reward (name, source, reason), so it stands among the rollout's rewards. DataError for a rating
    off its scale, and where nothing is said.
    """
    if rating is None and correction is None and not comment:
        raise DataError("feedback says nothing: give a rating, a correction or a comment.")
    body: dict[str, Any] = {"kind": "comment" if rating is None else "rating", "rollout": rollout}
    if rating is not None:
        body |= {"value": on_unit_scale(rating, scale), "scale": list(scale), "name": REWARD_NAME, "source": "human"}
    if comment:
        body["reason"] = comment
    if correction is not None:
        body["correction"] = correction
    return _record(body, rater, comment, run=run, rollout=rollout)


def choice_record(better: str, worse: str, *, run: str, rater: str = "", comment: str = "") -> Record:
    """One rollout preferred to another. It is of no rollout of its own: it belongs to two."""
    if better == worse:
        raise DataError(f"a choice is between two rollouts; {better!r} is named twice.")
    return _record({"kind": "choice", "better": better, "worse": worse}, rater, comment, run=run, rollout="")


def on_unit_scale(rating: float, scale: tuple[float, float]) -> float:
    """0 at the scale's lower end, 1 at its upper."""
    low, high = scale
    if not (low < high and low <= rating <= high):
        raise DataError(f"a rating of {rating:g} is not on the scale {low:g} to {high:g}.")
    return (rating - low) / (high - low)


def _record(body: dict[str, Any], rater: str, comment: str, *, run: str, rollout: str) -> Record:
    said = body | {"rater": rater, "comment": comment, "at": time.time()}
    return make_record("feedback", new_id("f"), said, run=run, rollout=rollout)
