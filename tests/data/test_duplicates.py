"""Equal content is one trajectory, whatever its ids, times and rewards."""

from __future__ import annotations

from typing import Any

import msgspec

from agentlightning.data.duplicates import deduplicate
from agentlightning.data.trajectory import Step, Trajectory


def rollout(id: str, result: str = "3", **fields: Any) -> Trajectory:
    step = Step(
        id=f"s-{id}", rollout_id=id, index=0, kind="tool", agent="a", started_at=hash(id) % 7, name="add", result=result
    )
    return Trajectory(
        id=id, agent_id="a", task=f"t-{id}", input="1+2", output="3", timestamp=1.0, steps=[step], **fields
    )


def test_the_same_content_is_kept_once_and_in_order() -> None:
    one, other, same = rollout("1"), rollout("2", result="4"), rollout("3", seconds=9.0)
    assert deduplicate([one, other, same]) == [one, other]
    assert deduplicate(reversed([one, other, same])) == [same, other]


def test_a_judged_one_is_kept_rather_than_an_unjudged_one() -> None:
    judged = rollout("2", reward=1.0)
    assert deduplicate([rollout("1"), judged, rollout("3", reward=0.0)]) == [judged]


def test_another_output_input_agent_or_step_is_another_trajectory() -> None:
    one = rollout("1")
    others = [msgspec.structs.replace(one, **{f: "other"}) for f in ("input", "output", "agent_id")]
    assert len(deduplicate([one, *others, msgspec.structs.replace(one, steps=[])])) == 5
