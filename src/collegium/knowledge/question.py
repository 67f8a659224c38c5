"""What a question asks: its parts, the words of each, and the kind of thing that would answer it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from collegium.domain.text import STOPWORDS, stem, terms
from collegium.knowledge.answers import AnswerType, answer_type

_PART: Final = re.compile(
    r"(?<=[?.;!])\s+|[,;]?\s+(?:and|or|but)(?:\s+also)?\s+(?=(?:(?:by|on|in|at|from|to|for|until|within"
    r"|with|of|after)\s+)?"
    r"(?:who|whom|whose|what|which|when|where|why|how)\b)|,\s+(?=(?:who|whose|what|which|when|where|why|how)\b)",
    re.IGNORECASE,
)
_ASKS: Final = re.compile(r"\b(?:who|whom|whose|what|which|when|where|why|how)\b|\?", re.IGNORECASE)
_POINTS_BACK: Final = re.compile(
    r"\b(?:it|its|they|them|their|he|she|his|her|that|this|those|these|there|then|one)\b", re.IGNORECASE
)
_COUNTED: Final = re.compile(
    r"\bhow (?:many|much) (?:more |other |different |new |full )?([a-z]{3,})|\bnumber of ([a-z]{3,})"
    r"|\b(?:what|which) ([a-z]{3,})",
    re.IGNORECASE,
)

_WEAK_TEXT: Final = """
    actually afterwards allowed along already anyway ask asked become begin belong bring call called came
    case change chance come current currently day different due end ever exactly expect far fast find
    finish finished first follow full general give given go goes going good great happen happened happens
    hand hold holds important instead keep kind know last late leave let like long look lose main matter
    mean means name need needed needs new next nowadays number often old order part people person place
    place point possible quickly reach really regularly regular right run said see seen set show soon
    somebody someone something start still stop sure take taken tell thing things think time today
    together told took try turn two understand usual usually wait want way week well whole word work works
    write year years
"""
WEAK: Final = frozenset(stem(word) for word in _WEAK_TEXT.split())
"""Words that say little about what a question is about; they count less."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is asked: ``text`` of the question and what would answer it.

    ``terms`` are its own words, ``told`` those that it certainly leans on (what the question states before
    asking, and the rest of it when the part only points back), ``rest`` those of its other parts. ``counted``
    is what ``how many`` counts.
    """

    text: str
    terms: tuple[str, ...]
    told: tuple[str, ...]
    rest: tuple[str, ...]
    answer: AnswerType
    counted: str = ""
    points_back: bool = False


def parts(question: str) -> tuple[Part, ...]:
    """The things that ``question`` asks, in order; at least one."""
    pieces = [piece.strip() for piece in _PART.split(question) if piece and piece.strip()]
    asking = [n for n, piece in enumerate(pieces) if _ASKS.search(piece)]
    if not asking:
        pieces, asking = [question.strip()], [0]
    stated = list(dict.fromkeys(t for n, piece in enumerate(pieces) if n not in asking for t in terms(piece)))
    whole = list(dict.fromkeys(terms(question)))
    before = " ".join(piece for n, piece in enumerate(pieces) if n not in asking)
    return tuple(_part(pieces[n], stated, whole, before=before, is_first=n == asking[0]) for n in asking)


def _part(text: str, stated: list[str], whole: list[str], *, before: str, is_first: bool) -> Part:
    kind = answer_type(text)
    own = tuple(dict.fromkeys(terms(text)))
    empty = not any(term not in WEAK for term in own)
    told = tuple(term for term in (whole if empty else stated) if term not in own)
    counted = next(
        (
            word
            for match in [_COUNTED.search(text)]
            if match
            for word in match.groups()
            if word and word.lower() not in STOPWORDS
        ),
        "",
    )
    return Part(
        text=text,
        terms=own or tuple(whole),
        told=told if own else (),
        rest=tuple(term for term in whole if term not in own and term not in told) if own else (),
        answer=answer_type(before) if kind == "any" else kind,
        counted=stem(counted) if counted else "",
        points_back=not is_first and _POINTS_BACK.search(text) is not None,
    )
