"""A JSON Schema is the task's, the configuration's or a file's; the reason names the place that does not fit."""

from __future__ import annotations

import asyncio
import builtins
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from tests.rewards.cases import rollout

from agentlightning.data.trajectory import Reward
from agentlightning.errors import DataError
from agentlightning.rewards.base import evaluate_reward
from agentlightning.rewards.structure import json_schema

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}


def judged(output: Any, schema: Any = SCHEMA, metadata: Any = None, **fields: Any) -> Reward | None:
    task, trajectory = rollout(output=output, **fields)
    task.metadata.update(metadata or {})
    base_dir = fields.pop("base_dir", Path())
    function = functools.partial(json_schema, schema=schema, base_dir=base_dir)
    return asyncio.run(evaluate_reward(function, task, trajectory))


@pytest.mark.parametrize(
    ("output", "value", "why"),
    [
        ('```json\n{"n": 3}\n```', 1.0, "fits"),
        ({"n": 3}, 1.0, "fits"),
        ('{"n": 0}', 0.0, "at $.n: 0 is less than the minimum of 1"),
        ("{}", 0.0, "at $: 'n' is a required property"),
        ("n is 3", 0.0, "not JSON"),
        (None, 0.0, "not JSON"),
    ],
)
def test_the_output_fits_or_the_reason_says_where_it_does_not(output: Any, value: float, why: str):
    given = judged(output)
    assert given is not None and given.value == value and why in (given.reason or ""), given


def test_a_task_may_bring_its_own_schema(tmp_path: Path):
    given = judged("[1]", schema=None, metadata={"json_schema": {"type": "array"}})
    assert given is not None and given.value == 1.0
    assert judged("[1]", schema=None) is None
    assert judged("[1]", status="stopped") is None


def test_a_schema_may_lie_in_a_file(tmp_path: Path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    given = judged('{"n": 1}', schema=str(tmp_path / "s.json"))
    assert given is not None and given.value == 1.0
    with pytest.raises(DataError, match="nowhere.json"):
        judged("{}", schema=str(tmp_path / "nowhere.json"))


def test_a_broken_schema_is_an_error_and_not_the_agents_zero():
    with pytest.raises(DataError, match="its JSON Schema is none"):
        judged("{}", schema={"type": "objekt"})


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("jsonschema"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'agentlightning\[jsonschema\]'"):
        judged("{}")
