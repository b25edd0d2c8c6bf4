"""What a person says on a page, as a feedback record: a rating of one rollout, or a choice between two."""

from __future__ import annotations

from typing import Any

import msgspec

from agentlightning.data.opinion import choice_record, rating_record
from agentlightning.data.record import Record
from agentlightning.errors import DataError
from agentlightning.store.base import Store

STARS = (1, 5)


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page sends."""

    rollout: str = ""
    stars: int | None = None
    better: str = ""
    worse: str = ""
    rater: str = ""
    comment: str = ""


async def record_of(store: Store, body: Any) -> Record:
    """The record to keep. DataError when it says neither or both, or names a rollout that is not there."""
    try:
        said = msgspec.convert(body, Said)
    except msgspec.ValidationError as error:
        raise DataError(f"this is no feedback: {error}") from error
    if bool(said.rollout) == bool(said.better and said.worse):
        raise DataError(
            "say either which `rollout` gets how many `stars`, or which of two is `better` and which `worse`."
        )
    if said.rollout:
        run = await _run_of(store, said.rollout)
        return rating_record(said.rollout, said.stars, STARS, run=run, rater=said.rater, comment=said.comment)
    runs = {await _run_of(store, rollout) for rollout in (said.better, said.worse)}
    if len(runs) > 1:
        raise DataError("the two rollouts belong to different runs; a choice is between two of one run.")
    return choice_record(said.better, said.worse, run=runs.pop(), rater=said.rater, comment=said.comment)


async def _run_of(store: Store, rollout: str) -> str:
    async for stored in store.read("rollout", {"id": rollout}, limit=1):
        return stored.record.run
    raise DataError(f"there is no rollout {rollout!r} in this store.")
