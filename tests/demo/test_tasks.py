"""The tickets: reproducible, never shared between splits, and a secret the model does not hold."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from tests.demo.world import TEMPLATE

from agentlightning.demo import agent, model
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Request
from agentlightning.demo.tasks import KINDS, SIZES, make_tasks

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_triage"
SHOP_WORDS = {"gift", "discount", "promo", "coupon", "warranty", "vat", "flyer", "bookkeeper", "coupons", "gifts"}


def test_the_same_seed_gives_the_same_tickets_and_another_seed_others() -> None:
    assert make_tasks(3) == make_tasks(3)
    assert make_tasks(3) != make_tasks(4)


@pytest.mark.parametrize("seed", [1, 7, 23])
def test_no_ticket_appears_twice_in_any_split(seed: int) -> None:
    splits = make_tasks(seed)
    assert {split: len(tasks) for split, tasks in splits.items()} == SIZES
    counted = Counter(task.input for tasks in splits.values() for task in tasks)
    assert max(counted.values()) == 1


def test_every_split_shows_every_queue_and_half_of_it_follows_the_house() -> None:
    for tasks in make_tasks().values():
        assert {task.expected for task in tasks} == {kind.queue for kind in KINDS.values()}
    assert sum(kind.share for kind in KINDS.values()) == 40
    assert 0.5 <= sum(kind.share for kind in KINDS.values() if kind.is_house_rule) / 40 <= 0.6


def test_every_order_a_ticket_names_can_be_looked_up() -> None:
    tickets = " ".join(str(task.input) for tasks in make_tasks().values() for task in tasks)
    numbers = set(re.findall(r"N-\d+", tickets))
    assert len(numbers) > 20
    assert numbers <= set(agent.ORDERS)


def test_the_simulated_model_does_not_know_the_words_of_this_shop() -> None:
    folder = files(model)
    source = "\n".join(f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".py")).lower()
    assert SHOP_WORDS & set(re.findall(r"[a-z]+", source)) == set()
    assert "demo.tasks" not in source and "demo.agent" not in source and "orders.csv" not in source


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.is_house_rule])
def test_common_sense_alone_gets_a_house_convention_wrong(name: str) -> None:
    wrong = 0
    for core in KINDS[name].cores:
        ticket = core.format(lost="N-1", delivered="N-2", in_transit="N-3", any="N-4")
        request = Request([{"role": "system", "content": TEMPLATE}, {"role": "user", "content": ticket}])
        wrong += KINDS[name].queue not in (answer(request).text or "")
    assert wrong == len(KINDS[name].cores)


def test_the_example_folder_holds_the_default_tickets() -> None:
    for split, tasks in make_tasks().items():
        lines = (EXAMPLE / f"{split}.jsonl").read_bytes().splitlines()
        assert [msgspec.json.decode(line) for line in lines] == [
            {"id": task.id, "input": task.input, "expected": task.expected} for task in tasks
        ]
