"""Kinds of answers: which kind a question wants, and what of that kind a text holds."""

from __future__ import annotations

import re
from typing import Final, Literal

from collegium.domain.facts import quantities
from collegium.domain.text import STOPWORDS

AnswerType = Literal["number", "money", "percent", "duration", "date", "time", "person", "name", "any"]

_NAME: Final = re.compile(
    r"\b[A-Za-z]\w*(?:-\w+)+\b|\b[A-Z][\w\u2019']*[a-z0-9](?:[ -](?:van |von |de |da"
    r" )?[A-Z][\w\u2019'-]*[a-z0-9])*\b|\b[A-Z]{2,}\b|#[\w-]+|\b\w+_\w+\b"
)
_NO_NAMES_TEXT: Final = """
    january february march april may june july august september october november december monday tuesday
    wednesday thursday friday saturday sunday utc eur usd gbp chf
"""
_NO_NAMES: Final = STOPWORDS | frozenset(_NO_NAMES_TEXT.split())
_ASKED: Final[tuple[tuple[AnswerType, re.Pattern[str]], ...]] = (
    (
        "duration",
        re.compile(
            r"\bhow (?:long|soon|fast|quickly|old|late|early|far ahead)\b"
            r"|\b(?:within|after) (?:what|which|how)\b|\bretention period\b"
            r"|\bhow many (?:\w+ )?(?:seconds|minutes|hours|days|weeks|months|years)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "money",
        re.compile(
            r"\bhow much money\b|\bhow much is .{0,30}\b(?:paid|bonus|fee|salary|allowance)\b|\bhow expensive\b"
            r"|\bhow much .{0,40}\b(?:costs?|paid|pay|spend|spent|lose|lost|earn|reimburs\w+|allowance)\b"
            r"|\bwhat (?:does|do|did|may|can|will|should) .{0,60}\bcosts?\b"
            r"|\bwhat is the (?:\w+ )?(?:price|fee|cost|salary|bonus|allowance) (?:of|for)\b"
            r"|\b(?:what|which) (?:price|fee|cost|salary|bonus|sum|amount of money)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "percent",
        re.compile(
            r"\b(?:what|which) (?:share|percentage|proportion|fraction)\b|\bhow many per ?cent\b", re.IGNORECASE
        ),
    ),
    (
        "number",
        re.compile(
            r"\bhow (?:many|much|large|big|high|often|strongly|small|low|heavy|wide|full)\b|\bby how\b"
            r"|\b(?:what|which) (?:number|port|version|release|amount|limit|size|rate|threshold|level|value)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "date",
        re.compile(
            r"\b(?:what|which) (?:\w+ ){0,2}(?:date|day)\b(?! of the week)|\b(?:first|last) day\b"
            r"|\bdate (?:of|is|when|on)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "time",
        re.compile(
            r"(?:^|\b(?:since|until|till|by|from) )when\b|\bsince which\b"
            r"|\b(?:what|which) (?:\w+ )?(?:weekday|time|month|year|week|hour|quarter)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "name",
        re.compile(
            r"\b(?:what|which) is the (?:\w+ )?name\b|\b(?:is|are) (?:it|they|\w+) called\b"
            r"|\b(?:what|which) (?:\w+ )?(?:company|vendor|supplier|provider|tool|system|team|service|product"
            r"|office|city|country|language|database|software|library|framework|channel|region"
            r"|group|department|division|firm|agency|brand|model|role)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "person",
        re.compile(
            r"\b(?:who|whom|whose)\b|\bby name\b|\b(?:which|what) (?:person|colleague|engineer|manager)\b",
            re.IGNORECASE,
        ),
    ),
)
_VERSION: Final = re.compile(r"\b\d+(?:\.\d+)+\b")
_MONTH: Final = r"(?:january|february|march|april|may|june|july|august|september|october|november|december)"
_DAY: Final = r"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?"
_SMALL: Final = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty"
    r"|fifty|half|a quarter|a third|none|once|twice)"
)
_SPAN: Final = r"(?:second|minute|hour|day|night|week|month|quarter|year)s?"
_FOUND: Final[dict[AnswerType, re.Pattern[str]]] = {
    "percent": re.compile(
        r"\d\s?%|\bper ?cent\b|\bpercentage\b|\b(?:half|a quarter|a third|two thirds)\b", re.IGNORECASE
    ),
    "money": re.compile(
        r"(?:EUR|USD|GBP|CHF|[\u20ac$\u00a3])\s?\d[\d.,]*|\d[\d.,]*\s?(?:EUR|USD|GBP|CHF|euros?|dollars?"
        r"|pounds?|[\u20ac$\u00a3])",
        re.IGNORECASE,
    ),
    "duration": re.compile(
        rf"(?:\d[\d.,]*|\b(?:{_SMALL}|next|same))[ -]?(?:\w+ ){{0,2}}{_SPAN}\b|\d\s?(?:s|ms|min|h)\b"
        rf"|\b(?:at once|immediately)\b"
        rf"|{_SPAN}\W{{1,4}}\d|\d[^\n]{{0,20}}\bunit\W+{_SPAN}",
        re.IGNORECASE,
    ),
    "date": re.compile(rf"\b\d{{1,2}}\.? {_MONTH}\b|\b{_MONTH} \d{{1,2}}\b|\b\d{{4}}-\d{{2}}-\d{{2}}\b", re.IGNORECASE),
    "time": re.compile(
        rf"\b{_MONTH}\b|\b{_DAY}\b|\d{{1,2}}[:.]\d{{2}}\b|\d{{4}}-\d{{2}}|\b(?:19|20)\d{{2}}\b|\b(?:noon"
        rf"|midnight|daily|nightly|weekly|monthly|quarterly|yearly)\b"
        rf"|\b(?:after|within) (?:\d+|{_SMALL})[ -]{_SPAN}\b|\bevery (?:\w+ )?(?:day|night|week|month"
        rf"|year|quarter|spring|autumn)\b",
        re.IGNORECASE,
    ),
    "person": re.compile(
        r"(?<![.!?:] )(?<!^)(?<!\n)\b[A-Z][\w\u2019'-]*[a-z\u00e0-\u00ff] (?:(?:[A-Z]\.|van|von|de|da"
        r"|del) )?[A-Z][\w\u2019'-]*[a-z\u00e0-\u00ff]\b|^[A-Z][a-z]+ [A-Z][a-z]+ \("
    ),
}


def answer_type(question: str) -> AnswerType:
    """The kind of thing that ``question`` asks for first."""
    found = [
        (match.start(), n, kind) for n, (kind, pattern) in enumerate(_ASKED) if (match := pattern.search(question))
    ]
    return min(found)[2] if found else "any"


def named(text: str) -> tuple[str, ...]:
    """Names in ``text``: written with capitals inside a sentence, with hyphens or underscores; in order, once each."""
    found: dict[str, None] = {}
    for match in _NAME.finditer(text):
        name = match.group()
        begins = match.start() == 0 or text[: match.start()].rstrip(" ")[-1:] in ".!?:|\n"
        plain = "-" not in name and "_" not in name and " " not in name
        if not (begins and plain and name[1:].islower()) and name.lower() not in _NO_NAMES:
            found[name] = None
    return tuple(found)


def found_answers(kind: AnswerType, text: str) -> frozenset[str]:
    """The things of ``kind`` in ``text``, in lower case."""
    if kind == "name":
        return frozenset(name.lower() for name in named(text))
    if kind == "number":
        return frozenset(quantity.value for quantity in quantities(text)) | frozenset(_VERSION.findall(text))
    pattern = _FOUND.get(kind)
    return frozenset(match.group().lower() for match in pattern.finditer(text)) if pattern is not None else frozenset()
