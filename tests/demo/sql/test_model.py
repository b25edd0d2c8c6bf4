"""The model in the package: like any other on disk, small, and in need of good advice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.demo_model import SHIPPED, Learner
from scripts.demo_model.making import Recipe, make_model, said
from scripts.demo_model.tokenizer import render

from agentlightning.demo.sql.agent import SYSTEM, TOOLS
from agentlightning.demo.sql.lines import HARMFUL, HELPFUL, LINES
from agentlightning.demo.sql.tasks import make_tasks

MAX_MEGABYTES = 2
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": f"{SYSTEM}\nCheck the schema first."},
    {"role": "user", "content": "What is the largest price of boats with age below 30?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"type": "function", "function": {"name": "schema", "arguments": '{"words": ["price", "age"]}'}}
        ],
    },
    {"role": "tool", "content": '{"price": "c3", "age": "age"}'},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "type": "function",
                "function": {"name": "sql", "arguments": {"query": "select max(c3) from boats where age < 30"}},
            }
        ],
    },
    {"role": "tool", "content": "77"},
    {"role": "assistant", "content": "77"},
]


@pytest.fixture(scope="module")
def learner() -> Iterator[Learner]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Learner(SHIPPED, seed=0)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def success(learner: Learner) -> Any:
    tasks = make_tasks({"validation": 60}, seed=1)["validation"]
    return lambda *names: learner.success(tasks, "\n".join([SYSTEM, *(LINES[name][0] for name in names)]))


def test_it_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < MAX_MEGABYTES * 1e6


def test_every_turn_only_adds_to_the_ids_of_the_turns_before(learner: Learner):
    ids = [render(learner.tokenizer, CONVERSATION[:end], TOOLS) for end in range(1, len(CONVERSATION) + 1)]
    assert all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(ids))
    opened = render(learner.tokenizer, CONVERSATION[:2], TOOLS, is_open=True)
    assert ids[2][: len(opened)] == opened


def test_tokens_are_the_very_text_and_all_of_them_are_known(learner: Learner):
    text = learner.tokenizer.apply_chat_template(CONVERSATION, tools=TOOLS, tokenize=False)
    ids = learner.tokenizer.encode(text, add_special_tokens=False)
    assert learner.tokenizer.decode(ids) == text.lower()
    assert learner.tokenizer.unk_token_id not in ids


def test_only_what_the_assistant_said_is_learned(learner: Learner):
    row = said(learner.tokenizer, CONVERSATION)
    learned = [id for id, is_said in zip(row.ids, row.is_said, strict=True) if is_said]
    text = learner.tokenizer.decode(learned)
    assert text.count("<|end|>") == 3 and text.endswith("77<|end|>")
    assert "largest" not in text and '"price": "c3"' not in text


def test_alone_it_often_fails_good_advice_helps_and_bad_advice_hurts(success: Any):
    alone = success()
    assert 0.05 <= alone <= 0.30
    assert 0.30 <= max(success(name) for name in HELPFUL) <= 0.50
    assert all(success(name) <= alone / 2 for name in HARMFUL)


def test_the_recipe_makes_such_a_model_the_same_every_time(tmp_path: Path):
    small = Recipe(num_demonstrations=64, num_steps=3, batch_size=8)
    for name in ("one", "two"):
        make_model(tmp_path / name, small)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    shipped = {path.name: path.read_bytes() for path in SHIPPED.iterdir()}
    assert one.keys() == shipped.keys()
    assert one["tokenizer.json"] == shipped["tokenizer.json"]
    assert len(one["model.safetensors"]) == len(shipped["model.safetensors"])
