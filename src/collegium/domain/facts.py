"""Checkable pieces of a sentence: quantities with their units, dates, times, names, and whether something is denied."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from collegium.domain.text import NUMBER_WORDS, STOPWORDS, stem

_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_MONTH: Final = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATES: Final = (
    re.compile(r"\b(?P<year>(?:19|20)\d{2})-(?P<number>\d{2})(?:-(?P<day>\d{2}))?\b"),
    re.compile(
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}\b\.?,?(?: (?P<year>(?:19|20)\d{{2}}))?", re.IGNORECASE
    ),
    re.compile(
        rf"\b{_MONTH}\b\.? (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (?P<year>(?:19|20)\d{{2}}))?", re.IGNORECASE
    ),
    re.compile(rf"\b{_MONTH}\b (?P<year>(?:19|20)\d{{2}})\b", re.IGNORECASE),
)
_MAYBE: Final = re.compile(rf"\d[-:]\d|{'|'.join(_MONTH_NAMES)}")
"""Found in every text, in lower case, with a date or a time: one search instead of one for each form."""
_TIME: Final = re.compile(r"\b(\d{1,2}):(\d{2})(?::\d{2})?\b")
_CURRENCIES: Final = {
    "\u20ac": "eur",
    "$": "usd",
    "\u00a3": "gbp",
    "eur": "eur",
    "euro": "eur",
    "usd": "usd",
    "gbp": "gbp",
    "chf": "chf",
}
_MAGNITUDES: Final = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}
_NUMBER: Final = re.compile(
    r"(?P<currency>[\u20ac$\u00a3]|\b(?:EUR|USD|GBP|CHF)\b)?[ \u00a0]?"
    r"(?<![\w.])(?P<number>\d{1,3}(?:[,\u2019\u00a0]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)*)"
    r"(?:[ \u00a0-]?(?P<unit>%|[^\W\d_]+))?",
)
_WORD_NUMBER: Final = re.compile(
    rf"\b(?P<number>{'|'.join(sorted(set(NUMBER_WORDS) - {'one', 'zero'}, key=len, reverse=True))})\b"
    r"(?:[ -](?P<unit>[a-z]+))?",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w\u2019'-]*[a-z0-9][\w-]*\b|\b[A-Z]{2,}\b", re.MULTILINE)
_DENIAL: Final = re.compile(
    r"\b(?:no|not|never|none|nobody|nothing|neither|nor|without|cannot|can['\u2019]t|won['\u2019]t"
    r"|isn['\u2019]t|aren['\u2019]t|wasn['\u2019]t"
    r"|weren['\u2019]t|don['\u2019]t|doesn['\u2019]t|didn['\u2019]t|hasn['\u2019]t|haven['\u2019]t"
    r"|hadn['\u2019]t|shouldn['\u2019]t|wouldn['\u2019]t|couldn['\u2019]t"
    r"|fail(?:s|ed)? to|refus(?:es|ed)|unable|lacks?)\b"
)
_UNITS: Final = {
    "percent": "%",
    "per": "%",
    "percentage": "%",
    "s": "second",
    "sec": "second",
    "min": "minut",
    "ms": "ms",
    "h": "hour",
}


class Quantity(NamedTuple):
    """A number as canonical digits and the stem of what it counts (``""`` when that is not said)."""

    value: str
    unit: str


def quantities(text: str) -> tuple[Quantity, ...]:
    """Numbers of ``text`` in order, without those of dates and times: ``EUR 38,600`` is ``("38600", "eur")``."""
    rest = without_dates(text)
    found = [(match.start(), _quantity(match)) for match in _NUMBER.finditer(rest)]
    for match in _WORD_NUMBER.finditer(rest):
        unit = (match["unit"] or "").lower()
        found.append((match.start(), Quantity(NUMBER_WORDS[match["number"].lower()], _unit(unit))))
    return tuple(quantity for _, quantity in sorted(found))


def dates(text: str) -> tuple[str, ...]:
    """Dates and times by ISO 8601, with ``-`` for what is not said: ``2026-04-22``, ``-04-22``, ``09:00``."""
    if _MAYBE.search(text.lower()) is None:
        return ()
    found: list[tuple[int, str]] = []
    rest = text
    for pattern in _DATES:
        for match in pattern.finditer(rest):
            parts = match.groupdict()
            month = int(parts["number"]) if parts.get("number") else _MONTHS[(parts.get("month") or "jan")[:3].lower()]
            day = parts.get("day")
            found.append((match.start(), f"{parts.get('year') or ''}-{month:02}" + (f"-{int(day):02}" if day else "")))
        rest = pattern.sub(_blank, rest)
    found += [(m.start(), f"{int(m[1]):02}:{m[2]}") for m in _TIME.finditer(text)]
    return tuple(value for _, value in sorted(found))


def without_dates(text: str) -> str:
    """``text`` with blanks in the place of dates and times."""
    if _MAYBE.search(text.lower()) is None:
        return text
    rest = _TIME.sub(_blank, text)
    for pattern in _DATES:
        rest = pattern.sub(_blank, rest)
    return rest


def names(text: str) -> frozenset[str]:
    """Words written like names where no sentence begins, in lower case."""
    return frozenset(m.group().lower() for m in _NAME.finditer(text) if m.group().lower() not in STOPWORDS)


def denies(text: str) -> bool:
    """Whether ``text`` says that something is not so."""
    return _DENIAL.search(text.lower()) is not None


def agrees(value: str, others: frozenset[str]) -> bool:
    """Whether a date or time of ``dates`` is among ``others``, where one of them may say less (no year, no day)."""
    if value in others:
        return True
    return any(other.endswith(value) or value.endswith(other) or other.startswith(f"{value}-") for other in others)


def _quantity(match: re.Match[str]) -> Quantity:
    number = match["number"].replace(",", "").replace("\u2019", "").replace("\u00a0", "")
    unit = (match["unit"] or "").lower()
    if unit in _MAGNITUDES and number.count(".") <= 1:
        scaled = float(number) * _MAGNITUDES[unit]
        number, unit = f"{scaled:.12g}", ""
    if number.count(".") == 1:
        number = number.rstrip("0").rstrip(".")
    currency = (match["currency"] or "").lower()
    if currency:
        return Quantity(number, _CURRENCIES[currency])
    return Quantity(number, _CURRENCIES.get(unit) or _unit(unit))


def _unit(word: str) -> str:
    if word in _UNITS:
        return _UNITS[word]
    return "" if not word or word in STOPWORDS else stem(word)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())
