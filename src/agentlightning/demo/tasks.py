"""The demo's tickets: what customers of a small shop write, and the queue this shop puts each one in.

Half of the tickets follow a convention of the house that nobody could guess and the agent's prompt does not state;
the rest is common sense, with words that point the wrong way mixed in. All of it is drawn from one seed.
"""

from __future__ import annotations

import csv
import random
from importlib.resources import files

import msgspec

from agentlightning.data.task import Task, to_task

SIZES = {"train": 40, "validation": 24, "test": 60}
DEFAULT_SEED = 7


class Kind(msgspec.Struct, frozen=True):
    """One sort of ticket. `{lost}`, `{delivered}`, `{in_transit}` and `{any}` become order numbers in that state."""

    queue: str
    share: int
    """Out of 40 tickets."""
    is_house_rule: bool
    cores: tuple[str, ...]


KINDS = {
    "gift card": Kind(
        "billing",
        3,
        True,
        (
            "My gift card does not show up in my account.",
            "How do I add a gift card to my account?",
            "I can log in, but the balance of my gift card is gone.",
            "My gift card says it belongs to another email.",
            "After the login I can not find where to enter a gift card.",
            "I registered a gift card under the wrong profile.",
        ),
    ),
    "discount": Kind(
        "technical",
        3,
        True,
        (
            "I was charged the full price although I entered a discount code.",
            "The promo code was not taken off my bill.",
            "My discount code made no difference to the price.",
            "I paid too much, the discount code was ignored.",
            "The promo code from your flyer was refused, so I paid the normal price.",
            "Order {any} was billed without my discount code.",
        ),
    ),
    "refund of a lost order": Kind(
        "shipping",
        3,
        True,
        (
            "I would like a refund for order {lost}.",
            "Please refund {lost}, I gave up on it.",
            "Can I have a refund for {lost}?",
            "I want my money back for order {lost}.",
            "Order {lost}: when do I get my refund?",
        ),
    ),
    "delivered but missing": Kind(
        "billing",
        3,
        True,
        (
            "Order {delivered} has not arrived.",
            "My parcel {delivered} never arrived here.",
            "I did not receive order {delivered}.",
            "Where is {delivered}? Nothing has arrived so far.",
            "The courier says it is done, but {delivered} has not arrived at my door.",
        ),
    ),
    "warranty": Kind(
        "account",
        3,
        True,
        (
            "My kettle is broken and still under warranty.",
            "The lamp is broken after a year, does the warranty cover that?",
            "I want a replacement under the warranty.",
            "How long is the warranty? The mirror is cracked.",
            "The shelf came damaged, I claim the warranty.",
            "My chair from order {delivered} is broken, please use the warranty.",
        ),
    ),
    "company invoice": Kind(
        "account",
        3,
        True,
        (
            "I need an invoice with our VAT number.",
            "The invoice for {any} lacks the VAT number of our company.",
            "Please put our VAT number on the bill.",
            "Our bookkeeper asks for the VAT on the invoice.",
            "The VAT on my receipt is not right.",
        ),
    ),
    "angry again": Kind(
        "escalation",
        3,
        True,
        (
            "This is unacceptable. I already wrote last week about my parcel.",
            "I am furious. This is the second time I write about the wrong charge.",
            "Ridiculous! I have written to you before and the app is still crashing.",
            "Terrible service, I already contacted you about the broken vase.",
            "I am fed up. I already asked twice for my invoice.",
            "This is my second message about my gift card, and it is outrageous.",
            "I already called about the discount code. This is unacceptable.",
            "Your service is awful, this is the third time I ask about order {any}.",
        ),
    ),
    "payment": Kind(
        "billing",
        3,
        False,
        (
            "I was charged twice for order {any}.",
            "There is a charge on my statement that I do not know.",
            "Can I pay by bank transfer?",
            "Please send me the invoice for {any}.",
            "The invoice shows the wrong price.",
            "Why did the bank debit come twice?",
        ),
    ),
    "parcel": Kind(
        "shipping",
        3,
        False,
        (
            "When will my parcel {in_transit} arrive?",
            "The tracking of {in_transit} has not moved for days.",
            "Order {in_transit} has not arrived.",
            "The courier did not ring, where is my package?",
            "Which carrier brings the parcel?",
            "I did not receive {in_transit}.",
            "How much longer does the delivery of {in_transit} take?",
        ),
    ),
    "software": Kind(
        "technical",
        2,
        False,
        (
            "Your app crashes when I open it.",
            "The website shows an error when I search.",
            "The page does not load on my phone.",
            "The button at the end of the page does nothing.",
            "The screen freezes when I scroll.",
        ),
    ),
    "access": Kind(
        "account",
        3,
        False,
        (
            "I forgot my password.",
            "How can I change the email of my account?",
            "I can not log in.",
            "Please delete my profile.",
            "My username is misspelled.",
        ),
    ),
    "sending back": Kind(
        "returns",
        3,
        False,
        (
            "I want to return the chair from {delivered}.",
            "Please refund {delivered}, the colour does not suit us.",
            "Can I exchange the rug for a smaller one?",
            "I would like a refund for order {delivered}.",
            "The vase from {delivered} was broken.",
            "You sent me the wrong lamp.",
            "I want my money back for {delivered}, the blanket is scratchy.",
        ),
    ),
    "threat": Kind(
        "escalation",
        1,
        False,
        (
            "My lawyer will be in touch with you.",
            "I demand to speak to a manager.",
            "I will go to court over this.",
        ),
    ),
    "angry once": Kind(
        "shipping",
        2,
        False,
        (
            "Unacceptable, my parcel {in_transit} is late.",
            "This is ridiculous, the courier threw my package over the fence.",
            "Terrible delivery, the parcel stood in the rain.",
            "I am angry about the slow shipping of {in_transit}.",
        ),
    ),
    "calm again": Kind(
        "account",
        2,
        False,
        (
            "I already wrote last week about my password.",
            "This is my second message, I still can not log in.",
            "I have written to you before about the email of my account.",
            "I already asked how to delete my account.",
        ),
    ),
}

OPENINGS = ("", "", "Hello, ", "Hi there, ", "Good morning, ", "Dear team, ")
CLOSINGS = ("", "", " Thank you.", " Thanks in advance.", " Kind regards, {name}", " Best, {name}", " Please help.")
NAMES = ("Ada", "Jonas", "Mira", "Tom", "Lena", "Oskar", "Yuki", "Sam")
ASIDES = (
    " It was meant as a birthday present.",
    " I moved house in spring.",
    " My sister recommended you.",
    " I like your catalogue a lot.",
    " We are going on holiday on Friday.",
    " The blue one looked so nice.",
    " I always buy from you.",
    " My neighbour had the same.",
)
MISLEADING_ASIDES = (
    " By the way, your app is nice.",
    " I paid by card.",
    " The courier was friendly last time.",
    " You have my email.",
)


def make_tasks(seed: int = DEFAULT_SEED) -> dict[str, list[Task]]:
    """Tasks by split (train 40, validation 24, test 60), every ticket different, all kinds in every split."""
    draw = random.Random(seed)
    orders = _orders_by_status()
    seen: set[str] = set()
    splits: dict[str, list[Task]] = {}
    for split, size in SIZES.items():
        names = _kinds_in_proportion(size)
        draw.shuffle(names)
        splits[split] = [_task(name, draw, orders, seen) for name in names]
    return splits


def _kinds_in_proportion(size: int) -> list[str]:
    """Kind names for `size` tickets, each kind as near to its share as whole tickets allow."""
    shares = [name for name, kind in KINDS.items() for _ in range(kind.share)]
    return [shares[(2 * i + 1) * len(shares) // (2 * size)] for i in range(size)]


def _task(name: str, draw: random.Random, orders: dict[str, list[str]], seen: set[str]) -> Task:
    kind = KINDS[name]
    ticket = _ticket(kind, draw, orders)
    while ticket in seen:
        ticket = _ticket(kind, draw, orders)
    seen.add(ticket)
    return to_task({"input": ticket, "expected": kind.queue})


def _ticket(kind: Kind, draw: random.Random, orders: dict[str, list[str]]) -> str:
    numbers = {status: draw.choice(ids) for status, ids in orders.items()}
    core = draw.choice(kind.cores).format(**numbers)
    dice = draw.random()
    aside = draw.choice(MISLEADING_ASIDES) if dice < 0.12 else draw.choice(ASIDES) if dice < 0.5 else ""
    opening, closing = draw.choice(OPENINGS), draw.choice(CLOSINGS).format(name=draw.choice(NAMES))
    return f"{opening}{core}{aside}{closing}".strip()


def _orders_by_status() -> dict[str, list[str]]:
    with files("agentlightning.demo").joinpath("orders.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, list[str]] = {"any": [row["order_id"] for row in rows]}
    for row in rows:
        found.setdefault(row["status"], []).append(row["order_id"])
    return found
