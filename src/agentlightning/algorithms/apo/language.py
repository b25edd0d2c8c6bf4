"""Which language is a text in, as far as its script and its most frequent small words tell? A guess, or none.

Meant for one question: did a rewritten prompt leave the language of the one before? So it would rather say nothing than
err: examples and names in other languages inside a prompt change no verdict.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_MARKER = re.compile(r"⟦[^⟦⟧]*⟧")
_WORD = re.compile(r"[^\W\d_]+")
_MIN_SMALL_WORDS = 3
_CLEAR_LEAD = 2.0
"""The language that is guessed has so many times the small words of the next."""
_CJK_WEIGHT = 3
"""A Chinese character, a syllable of Japanese or Korean says about as much as three letters."""

_SCRIPTS = {
    "CJK": "east asian", "HIRAGANA": "east asian", "KATAKANA": "east asian", "HANGUL": "east asian",
    "LATIN": "latin", "CYRILLIC": "cyrillic", "GREEK": "greek", "ARABIC": "arabic", "HEBREW": "hebrew",
    "DEVANAGARI": "devanagari", "BENGALI": "bengali", "TAMIL": "tamil", "THAI": "thai",
}  # fmt: skip

_SMALL_WORDS = {
    "English": "the of and to is you are that for not with this be it from your should must when if an or on as do",
    "German": "der die das und ist nicht ein eine sie zu mit für den auf dem wenn oder wird nur von im du bei des sich",
    "French": "le les et est pas une vous des pour dans du que qui ne sur avec ou au il être votre cette par ce sont",
    "Spanish": "el los las y es una para en del que con se por su usted como al debe cuando lo este pero sobre sin más",
    "Italian": "il di è non una per del che con gli sei devi come quando della nel da ogni più ma questo anche sono al",
    "Portuguese": "os as é não uma para em do que com se por você ao deve quando um seu dos das pelo mais também isso",
    "Dutch": "de het een en is niet je van te voor met op dat die als of in aan moet er zijn naar ook bij alleen",
}
_OWNERS = Counter(word for words in _SMALL_WORDS.values() for word in words.split())
_OWN_WORDS = {name: [w for w in words.split() if _OWNERS[w] == 1] for name, words in _SMALL_WORDS.items()}
"""Without those that several of them have."""


def same_language(old: str, new: str) -> bool:
    """False where the second text is clearly in another language than the first; True where that cannot be told."""
    before, after = _script(old), _script(new)
    if before and after and before != after:
        return False
    first, second = _latin_language(old), _latin_language(new)
    return not (first and second and first != second)


def _script(text: str) -> str:
    """The script of most letters; empty for a text without any that is known."""
    counts: Counter[str] = Counter()
    for character, count in Counter(_MARKER.sub("", text)).items():
        if character.isalpha():
            script = _SCRIPTS.get(unicodedata.name(character, "").split(" ")[0].split("-")[0], "")
            counts[script] += count * (_CJK_WEIGHT if script == "east asian" else 1)
    counts.pop("", None)
    return max(counts, key=lambda name: counts[name]) if counts else ""


def _latin_language(text: str) -> str:
    """The language whose small words are clearly the most frequent; empty where none leads."""
    words = Counter(_WORD.findall(_MARKER.sub(" ", text).casefold()))
    found = {name: sum(words[word] for word in own) for name, own in _OWN_WORDS.items()}
    best, next_best = sorted(found, key=lambda name: -found[name])[:2]
    is_clear = found[best] >= _MIN_SMALL_WORDS and found[best] >= _CLEAR_LEAD * found[next_best]
    return best if is_clear else ""
