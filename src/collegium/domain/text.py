"""Words of a text: where they stand, their stems, and how rare they are.

Pure functions, the same for index and scorer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import log
from typing import Final, NamedTuple

_WORD: Final = re.compile(r"\d[\d.,:/\u2019-]*\d|\d+|[^\W\d_]+(?:['\u2019][^\W\d_]{1,2}(?![^\W\d_]))?", re.UNICODE)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GROUPED: Final = re.compile(r"\d{1,3}(?:[,\u2019]\d{3})+(?:\.\d+)?")

_STOPWORDS_TEXT: Final = """
    a about above after again all also am an and any are as at be because been before being below
    between both but by can could did do does doing down during each either else ever every few for from
    further get gets getting give given had has have having he her here hers him his how however i if in
    into is it its itself just let like made make many may me might more most much must my neither no
    nor not now of off on once one only or other our ours out over own per please put s same say says
    shall she should since so some such t take than that the their theirs them then there these they
    this those through thus to too under until up upon us use used using very via want was we were what
    when where whether which while who whom whose why will with within without would yet you your yours
"""
STOPWORDS: Final = frozenset(_STOPWORDS_TEXT.split())
"""English words that carry no topic. ``not`` and its kind are handled by the scorers, not by search."""

_COUNTING: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_TENS: Final = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS: Final[Mapping[str, str]] = {word: str(n) for n, word in enumerate(_COUNTING)} | {
    word: str(10 * n) for n, word in enumerate(_TENS, 3)
}
"""Numbers that are written out, with their digits."""


class Word(NamedTuple):
    """A word of a text: ``text[start:end]`` as written, and its ``stem``."""

    start: int
    end: int
    stem: str


def words(text: str) -> list[Word]:
    """Every word and number of ``text`` in order; ``camelCase`` and ``snake_case`` come apart."""
    found: list[Word] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        piece = match.group()
        if piece.islower() or not _CAMEL.search(piece):
            found.append(Word(start, end, stem(piece)))
            continue
        cuts = [c.start() for c in _CAMEL.finditer(piece)]
        for left, right in zip([0, *cuts], [*cuts, end - start], strict=True):
            found.append(Word(start + left, start + right, stem(piece[left:right])))
    return found


def terms(text: str) -> list[str]:
    """Stems of the words of ``text`` that carry meaning, in order, with repetitions."""
    pieces: list[str] = _WORD.findall(text)
    if _CAMEL.search(text):
        pieces = [part for piece in pieces for part in _CAMEL.split(piece)]
    return [found for found in map(stem, pieces) if found not in _STOP_STEMS]


def surfaces(texts: Iterable[str]) -> dict[str, str]:
    """Each term of ``texts`` but numbers, with the first word that it was made of, in lower case."""
    found: dict[str, str] = {}
    for text in texts:
        kept = set(terms(text))
        for word in words(text):
            if word.stem in kept and not word.stem[0].isdigit():
                found.setdefault(word.stem, text[word.start : word.end].lower())
    return found


def rarity(documents: Iterable[Iterable[str]]) -> dict[str, float]:
    """Weight per term, from how few of ``documents`` (each a bag of terms) hold it: above 0, higher for rarer ones.

    Source: the idf of BM25 in its never-negative form, ln(1 + (n - df + 0.5) / (df + 0.5)).
    """
    counts: dict[str, int] = {}
    total = 0
    for bag in documents:
        total += 1
        for term in set(bag):
            counts[term] = counts.get(term, 0) + 1
    return {term: log(1 + (total - df + 0.5) / (df + 0.5)) for term, df in counts.items()}


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The form under which ``word`` is found: lower case, no accents, without the commonest English endings.

    Light on purpose: it joins ``backups, backup`` and ``deploying, deployed, deployment`` and leaves names alone.
    """
    word = word.lower()
    if word[0].isdigit():
        return _GROUPED.sub(lambda m: m.group().replace(",", "").replace("\u2019", ""), word)
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    word = word.split("'")[0].split("\u2019")[0] or word
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    return word if len(word) < 4 else _strip(word)


def _strip(word: str) -> str:
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, left in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= left:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return word


_ENDINGS: Final = (("ments", 4), ("ment", 4), ("ingly", 4), ("ing", 3), ("edly", 4), ("ed", 3), ("ly", 4))
_STOP_STEMS: Final = (STOPWORDS | {stem(word) for word in STOPWORDS}) - set(NUMBER_WORDS.values())
