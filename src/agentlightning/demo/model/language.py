"""Text as words, sentences and tokens, and a coin whose side depends on text alone.

Words are compared by a light English stem, so "codes" is "code" and "arrived" is "arrives".
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_WORD = re.compile(r"[^\W\d_]+(?:['’][a-z]+)?")
_IDENTIFIER = re.compile(r"\b[A-Z]{1,5}-?\d{3,}\b|#\d{3,}\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])")
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,2}[.)]\s+|#+\s+)")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|approx)\.", re.IGNORECASE)
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"\s*(?:[{_CJK}]|[^\W{_CJK}]{{1,6}}|[^\w\s])|\s+$")


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts only: the simulated model's dice."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """The word without case, possessive and the commonest English endings."""
    word = re.sub(r"['’](s|re|ve|ll|d|m)?$", "", word.lower())
    for ending, instead in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith(("ss", "us", "is")):
            word = word[: -len(ending)] + instead
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lse":
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def words(text: str) -> list[str]:
    """The words of a text, as written; identifiers such as order numbers are left out."""
    return _WORD.findall(_IDENTIFIER.sub(" ", text))


def names(text: str) -> set[str]:
    """Words written with a capital inside a sentence: names of people, places, days."""
    return {found.lower() for found in re.findall(r"(?<=[^.!?\s] )[A-Z][a-z]+\b", text)}


def identifiers(text: str) -> list[str]:
    """Things that look like an order or case number: "A-1234", "#98765"."""
    return [found.lstrip("#") for found in _IDENTIFIER.findall(text)]


def sentences(text: str) -> list[str]:
    """Sentences, one per instruction: lines are split at sentence ends, list bullets are dropped."""
    found: list[str] = []
    for line in text.splitlines():
        kept = _ABBREVIATION.sub(lambda match: match.group(1), _BULLET.sub("", line))
        found += [sentence.strip() for sentence in _SENTENCE_END.split(kept) if sentence.strip()]
    return found


def is_chinese(text: str) -> bool:
    """Whether the text is mostly written in Chinese characters (Latin names and code may be mixed in)."""
    return 3 * len(re.findall(rf"[{_CJK}]", text)) > len(re.findall(r"[A-Za-z]", text))


def tokens(text: str) -> list[str]:
    """Pieces of at most six characters whose concatenation is the text: the unit of usage and of `max_tokens`."""
    pieces = _TOKEN.findall(text)
    return pieces if "".join(pieces) == text else [text[i : i + 4] for i in range(0, len(text), 4)]
