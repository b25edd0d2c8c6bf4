"""Which texts are one prompt, and which belong to another branch of the agent's code?

Texts are compared by their recurring word triples only, those that several tasks show: a retrieved document makes two
prompts look different, but it does not recur; the instructions around it do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from agentlightning.interception.alignment import Tokens, learn, num_constant_words
from agentlightning.interception.slots import Values

_MIN_SIMILARITY = 0.6
"""Share of two texts' recurring triples that is common to both, from which on they are one prompt at once."""
_MIN_OWN_WORDS, _MIN_OWN_SHARE = 12, 0.25
"""Instruction text that two prompts do not share, from which on they are two: in words, and of all that each has."""
_MIN_RECURRENCE = 0.1
"""Share of the tasks that show a triple, at least two of them, from which on it recurs."""
_MIN_SHARED_WORDS = 20
"""Prompts that share less are not one prompt merely because they are seldom."""
_MIN_GENERAL_WORDS = 4
_MIN_BRANCH_TASKS = 3

Triple = tuple[str, ...]


class Text(msgspec.Struct):
    """A distinct text at one place, the tasks that showed it, and its tokens."""

    text: str
    tasks: dict[str, Values] = {}
    num_calls: int = 0
    tokens: Tokens = ()


class Prompt(msgspec.Struct):
    """Texts that are one prompt, and the template they share."""

    texts: list[Text]
    template: Tokens
    is_coarse: bool = False
    """Short runs between its slots were given up, see `alignment.coarser`."""

    @property
    def tasks(self) -> set[str]:
        return {task for text in self.texts for task in text.tasks}

    @property
    def num_calls(self) -> int:
        return sum(text.num_calls for text in self.texts)


def group_texts(texts: Sequence[Text]) -> list[Prompt]:
    """The prompts behind distinct texts, the most widely shown first; the same whatever the order of the texts.

    Groups are joined again when nothing says they are branches: one's template matches the other's as a special case
    (a document that happened to recur); each was shown by a single task; or both by fewer than three, sharing much.
    """
    groups = _with_lone_joined([_prompt(group) for group in _alike(texts)])
    prompts: list[Prompt] = []
    for prompt in sorted(groups, key=lambda each: (-len(each.tasks), each.template)):
        host = next((each for each in prompts if _are_one(each, prompt)), None)
        if host is None:
            prompts.append(prompt)
        else:
            host.texts += prompt.texts
            host.template = learn([host.template, prompt.template])
    return prompts


def _prompt(texts: list[Text]) -> Prompt:
    return Prompt(texts, learn([text.tokens for text in texts]))


def _with_lone_joined(prompts: list[Prompt]) -> list[Prompt]:
    lone = [prompt for prompt in prompts if len(prompt.tasks) == 1]
    if len(lone) < 2 or num_constant_words(learn([prompt.template for prompt in lone])) < 2:
        return prompts
    joined = _prompt([text for prompt in lone for text in prompt.texts])
    return [prompt for prompt in prompts if len(prompt.tasks) > 1] + [joined]


def _are_one(host: Prompt, other: Prompt) -> bool:
    shared = learn([host.template, other.template])
    num_shared = num_constant_words(shared)
    if num_shared < _MIN_GENERAL_WORDS:
        return False
    if shared in (host.template, other.template):
        return True
    is_seldom = max(len(host.tasks), len(other.tasks)) < _MIN_BRANCH_TASKS
    if is_seldom and num_shared >= _MIN_SHARED_WORDS:
        return True
    return not all(_has_own_text(num_constant_words(each.template), num_shared) for each in (host, other))


def _has_own_text(num_words: float, num_shared: float) -> bool:
    enough = max(min(_MIN_OWN_WORDS, num_words / 2), _MIN_OWN_SHARE * num_words)
    return num_words - num_shared >= enough


def _alike(texts: Sequence[Text]) -> list[list[Text]]:
    """Groups of texts whose recurring triples are like those of the group's first, most shown text."""
    triples = {text.text: _triples(text.tokens) for text in texts} if len(texts) > 1 else {}
    recurring = _recurring(texts, triples)
    groups: dict[frozenset[Triple], list[Text]] = {}
    for text in sorted(texts, key=lambda text: (-len(text.tasks), text.text)):
        own = frozenset(triples.get(text.text, set()) & recurring)
        nearest = max(groups, key=lambda founder: _similarity(founder, own), default=own)
        groups.setdefault(nearest if _similarity(nearest, own) >= _MIN_SIMILARITY else own, []).append(text)
    return list(groups.values())


def _triples(tokens: Tokens) -> set[Triple]:
    words = [token for token in tokens if token[0].isalnum() or (len(token) > 1 and not token.isspace())]
    return set(zip(words, words[1:], words[2:], strict=False))


def _recurring(texts: Sequence[Text], triples: dict[str, set[Triple]]) -> set[Triple]:
    shown: dict[str, list[set[Triple]]] = {}
    for text in texts:
        for task in text.tasks:
            shown.setdefault(task, []).append(triples.get(text.text, set()))
    counts: Counter[Triple] = Counter()
    for sets in shown.values():
        counts.update(sets[0] if len(sets) == 1 else set[Triple]().union(*sets))
    enough = max(2, _MIN_RECURRENCE * len(shown))
    return {triple for triple, count in counts.items() if count >= enough}


def _similarity(left: frozenset[Triple], right: frozenset[Triple]) -> float:
    either = len(left | right)
    return len(left & right) / either if either else 1.0
