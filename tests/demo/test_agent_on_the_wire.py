"""The demo's agent, through the vendor's SDK and a real socket: its success follows the text of its prompt."""

from __future__ import annotations

import filecmp
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from tests.demo.world import TEMPLATE, run, same

from agentlightning.data.task import Task
from agentlightning.demo import agent
from agentlightning.demo.tasks import make_tasks

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_triage"
TEST = make_tasks()["test"]
ORIGINAL = agent.SYSTEM
CONVENTIONS = [
    "Answer with the queue only, one word.",
    "Angry customers who have written before go to escalation. This takes priority.",
    "Gift card tickets go to billing.",
    'If the ticket mentions "discount code" or "promo code", answer technical.',
    "Use lookup_order first when the ticket has an order number.",
    'If the order status is "lost" and the customer asks for a refund, answer shipping.',
    'If the order status is "delivered" and the ticket says it has not arrived, answer billing.',
    "Warranty questions belong to account.",
    'Send anything that mentions "VAT" to account.',
]
IN_OTHER_WORDS = [
    "Whenever an order number is given, look up the order before deciding.",
    "VAT questions → account",
    'Choose account if somebody speaks of the "warranty".',
    "When lookup_order returns delivered but the customer did not receive it, the queue is billing.",
    "For refunds of an order whose status is lost use shipping.",
    "Use technical for discount codes and promo codes, not billing.",
    "- billing: gift cards",
    "Before anything else: if the customer is upset and has contacted us already, escalate.",
    "Reply with nothing but the name of the queue.",
]


def success(tasks: list[Task], extra: list[str], shop: pytest.MonkeyPatch) -> float:
    shop.setattr(agent, "SYSTEM", "\n".join([ORIGINAL, *extra]))
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(agent.triage, [str(task.input) for task in tasks]))
    return sum(same(output, task.expected) for output, task in zip(outputs, tasks, strict=True)) / len(tasks)


def test_the_original_prompt_leaves_room_and_is_not_hopeless(shop: pytest.MonkeyPatch) -> None:
    assert 0.25 <= success(TEST, [], shop) <= 0.55


def test_every_convention_stated_raises_success_and_every_one_removed_lowers_it(shop: pytest.MonkeyPatch) -> None:
    upward = [success(TEST, CONVENTIONS[:count], shop) for count in (0, 2, 4, 7, 9)]
    assert all(later > earlier for earlier, later in pairwise(upward)), upward
    assert upward[-1] >= 0.9
    without_last, without_four = success(TEST, CONVENTIONS[1:], shop), success(TEST, CONVENTIONS[4:], shop)
    assert upward[-1] > without_last > without_four


def test_the_same_conventions_in_other_words_and_another_order_work_as_well(shop: pytest.MonkeyPatch) -> None:
    assert success(TEST, IN_OTHER_WORDS, shop) >= 0.9


def test_wrong_rules_do_harm(shop: pytest.MonkeyPatch) -> None:
    wrong = [
        "Route anything about a parcel to returns.",
        'Before anything else: if the ticket mentions "invoice", escalate.',
    ]
    assert success(TEST, [*CONVENTIONS, *wrong], shop) < success(TEST, CONVENTIONS, shop)
    assert success(TEST, wrong, shop) < success(TEST, [], shop)


def test_the_agent_over_http_answers_as_the_model_alone_does(shop: pytest.MonkeyPatch) -> None:
    assert [agent.triage(str(task.input)) for task in TEST[:12]] == [run(TEMPLATE, task).output for task in TEST[:12]]


def test_a_model_that_only_calls_tools_ends_after_a_few_turns(shop: pytest.MonkeyPatch) -> None:
    shop.setattr(agent, "SYSTEM", ORIGINAL + " Use lookup_order first when there is an order number.")
    shop.setattr(agent, "MAX_TURNS", 1)
    assert agent.triage(f"Where is {next(iter(agent.ORDERS))}?") == ""


def test_the_example_folder_shows_the_agent_and_the_tickets_that_ship() -> None:
    package = Path(agent.__file__).parent
    assert filecmp.cmp(EXAMPLE / "agent.py", package / "agent.py", shallow=False)
    assert filecmp.cmp(EXAMPLE / "orders.csv", package / "orders.csv", shallow=False)


def test_the_agent_is_an_ordinary_program() -> None:
    source = (EXAMPLE / "agent.py").read_text(encoding="utf-8")
    assert "agentlightning" not in source.lower()
