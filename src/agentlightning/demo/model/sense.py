"""What any English speaker knows: which words hardly matter, which topic a word suggests, how anger sounds.

General knowledge only. What a particular shop does with a ticket is not in here, and must be read from instructions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from agentlightning.demo.model.language import stem, words

_SMALL_WORDS = """
although however a about above after again all also always am an and another any anybody anyone anything are as ask
asked asking at away be because been before being below between but by call called came can cannot case come could
concerning contain contained containing customer dear did do does doing done don't down during each either else even
every everything few find first following for from get getting give given go goes going gone good got had happen
happened happening has have having he hello help her here hi him his how i if in instead into involve involving is
issue it its just keep know last let like look looking made make many matter may me mention mentioned mentioning
mentions message might more most much must my need needed needing never new next no nobody none nor not nothing now of
off often ok on once one only or other otherwise our out over own person please possible problem question rather
really regard regarding request said same saw say saying says see seem sent shall she should since so some somebody
someone something soon still sure take tell than thank thanks that the their them then there these they thing think
this those though through ticket time to together told too took trouble try trying type until up upon us use user
using very want wanted was we week well went were what when where whether which while who whole whom why will wish
with within without word wording would write writes writing wrote yes yesterday yet you your i'm i've isn't doesn't
didn't won't can't it's that's there's today tomorrow under near behind along across around long short big small old
day month monday tuesday wednesday thursday friday saturday sunday morning evening kind regards best team support shop
store greetings order ordered number gave meant sending
"""

_SYNONYMS = (
    ("refund", "reimburse", "reimbursement"),
    ("arrive", "receive"),
    ("parcel", "package"),
    ("damaged", "defective", "faulty"),
)

_TOPICS: dict[str, tuple[str, str]] = {
    "access": (
        "account login profile access identity",
        "account login log password profile email username unsubscribe",
    ),
    "delivery": (
        "shipping delivery logistics fulfilment",
        "parcel package delivery deliver courier ship shipment shipping tracking arrive carrier postman",
    ),
    "money": (
        "billing payment payments finance bookkeeping",
        "charge bill billing invoice pay paid payment price bank debit money cost euro statement receipt",
    ),
    "software": (
        "technical tech software bugs it",
        "app website site page crash error bug screen freeze button browser load",
    ),
    "goods": (
        "returns return refunds exchanges",
        "return refund exchange broken damaged scratched cracked smashed wrong replace replacement back",
    ),
    "conflict": (
        "escalation complaint complaints management",
        "lawyer sue court manager supervisor police complaint legal",
    ),
}

CONCEPTS: dict[str, tuple[str, str, str]] = {
    "anger": (
        "the customer is angry",
        r"\b(?:angry|anger|furious|upset|annoyed|irate|frustrat\w+|aggressive)\b",
        r"\b(?:angry|furious|unacceptable|ridiculous|outrageous|terrible|disgrace\w*|fed up|appalling|worst|awful)\b",
    ),
    "repetition": (
        "the customer has written before",
        r"\b(?:contact|writ|wrot|ask|complain|report|messag|reach)\w*\b[^.]*\b(?:before|already|earlier|previously|again)\b"
        r"|\balready (?:contact|writ|wrot|ask|complain|report)\w*|\b(?:second|third|repeat\w*) (?:time|contact|message|"
        r"e-?mail|complaint|request)\b|\bfollow(?:s|ing)? up\b|\bnot the first\b",
        r"\balready (?:\w+ )?(?:contacted|wrote|written|asked|complained|reported|called|told)\b"
        r"|\b(?:second|third) (?:time|message|e-?mail|request)\b"
        r"|\b(?:wrote|written|contacted|asked|called|complained)\b[^.]*\b(?:before|twice|last week)\b",
    ),
    "urgency": (
        "the matter is urgent",
        r"\b(?:urgent\w*|urgency|in a hurry|pressing)\b",
        r"\b(?:urgent\w*|asap|immediately|right away|as soon as possible)\b",
    ),
    "identifier": (
        "there is an order number",
        r"\b(?:order|case|tracking|reference) (?:number|id|reference)s?\b",
        r"(?-i:\b[A-Z]{1,5}-?\d{3,}\b|#\d{3,}\b)",
    ),
}
"""name → (how to say it, how an instruction names it, how a text shows it)."""

_CANON = {stem(word): stem(group[0]) for group in _SYNONYMS for word in group}
_SMALL = frozenset(stem(word) for word in _SMALL_WORDS.split())
_TOPIC_OF = {stem(word): topic for topic, (_, listed) in _TOPICS.items() for word in listed.split()}
_TOPIC_NAMES = {stem(name): topic for topic, (names, _) in _TOPICS.items() for name in names.split()}
_NAMED = {name: re.compile(named, re.IGNORECASE) for name, (_, named, _) in CONCEPTS.items()}
_SHOWN = {name: re.compile(shown, re.IGNORECASE) for name, (_, _, shown) in CONCEPTS.items()}
_MONEY_BACK = re.compile(r"\bmoney back\b", re.IGNORECASE)


def stems(text: str) -> tuple[str, ...]:
    """The text's words as stems, synonyms folded together, small words included."""
    return tuple(_CANON.get(stem(word), stem(word)) for word in words(_MONEY_BACK.sub("refund", text)))


def is_small(word_stem: str) -> bool:
    """Whether the word says little on its own ("the", "please", "Monday")."""
    return len(word_stem) < 2 or word_stem in _SMALL


def topic_of(word_stem: str) -> str | None:
    """The topic an everyday word suggests, or None."""
    return _TOPIC_OF.get(word_stem)


def named_concepts(text: str) -> list[str]:
    """The concepts an instruction speaks of: "an angry customer who wrote before" names two."""
    return [name for name, pattern in _NAMED.items() if pattern.search(text)]


@lru_cache(maxsize=4096)
def shown_concepts(text: str) -> frozenset[str]:
    """The concepts a text shows: an angry tone, an earlier contact, an order number."""
    return frozenset(name for name, pattern in _SHOWN.items() if pattern.search(text))


def likely_label(text_stems: Iterable[str], labels: list[str]) -> str | None:
    """The label that ordinary common sense would pick: most topic words wins, the earliest word breaks ties."""
    topics = {label: _TOPIC_NAMES.get(stem(label)) for label in labels}
    votes: dict[str, int] = {}
    for word_stem in text_stems:
        for label, topic in topics.items():
            if topic is not None and _TOPIC_OF.get(word_stem) == topic:
                votes[label] = votes.get(label, 0) + 1
    return max(votes, key=lambda label: votes[label]) if votes else None
