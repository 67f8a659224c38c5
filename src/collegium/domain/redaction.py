"""Redaction: what looks like a secret, and the secrets that are known, taken out of texts before they leave.

``masked`` knows shapes alone. A ``Redactor`` also knows the very secrets of an installation, in plain, percent-encoded
and Base64. Both are linear in the length of the text: no pattern can be made to go back and forth over it.

Where which of them is used, and why, stands in ``docs/how-to/privacy.md``.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

MASK: Final = "[redacted]"
LEAST_CHARS: Final = 8
"""Shorter values are no secrets that could be told from words."""
_OWN_HINTS: Final = ("clg", "whsec_", "Y2xn", "d2hzZWNf")
_OWN_SHAPES: Final = (
    r"clg[a-z]?_[A-Za-z0-9_\-]{16,512}",  # keys of the API, tickets, sessions
    r"whsec_[A-Za-z0-9+/=_\-]{16,512}",  # secrets of webhooks
    r"(?:Y2xn|d2hzZWNf)[A-Za-z0-9+/=_\-]{20,700}",  # both of them in Base64
)
_SHAPES: Final = (
    *_OWN_SHAPES,
    # Providers of models and of everything else.
    r"(?:sk|rk|pk)[-_](?:[A-Za-z0-9]{1,20}[-_]){0,4}[A-Za-z0-9_\-]{16,512}",
    r"AIza[A-Za-z0-9_\-]{30,64}",
    r"gh[pousr]_[A-Za-z0-9]{20,255}",
    r"github_pat_[A-Za-z0-9_]{20,255}",
    r"glpat-[A-Za-z0-9_\-]{16,255}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,512}",
    r"hf_[A-Za-z0-9]{20,255}",
    r"eyJ[A-Za-z0-9_\-]{8,8192}\.[A-Za-z0-9_\-]{4,16384}\.[A-Za-z0-9_\-]{0,2048}",
)
_SHAPE: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_SHAPES)})")
_OWN: Final = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_OWN_SHAPES)})")
_PEM: Final = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----)[A-Za-z0-9+/=\s\\:,.()\-]){0,20000}"
    r"(?:-----END (?P=what)-----)?",
    re.DOTALL,
)
_URL: Final = re.compile(
    # `PASSWORD` stands in the hints of our own messages.
    r"(?P<before>(?<![a-z0-9+.\-])[a-z][a-z0-9+.\-]{0,30}://[^\s/:@'\"<>]{0,200}:)(?!(?-i:PASSWORD)@)"
    r"[^\s/@'\"<>]{1,500}(?=@)",
    re.I,
)
_HEADER: Final = re.compile(
    r"(?P<before>\b(?:proxy-)?authorization[\"']{0,2}\s{0,4}[:=]\s{0,4}[\"']{0,2}(?:(?:basic|bearer|token|digest)\s{1,4})?"
    r"|\b(?:bearer|basic)\s{1,4})(?P<value>[A-Za-z0-9+/=_.~\-]{8,8192})",
    re.I,
)
_COOKIE: Final = re.compile(
    r"(?P<before>\b(?:set-)?cookie[\"']{0,2}\s{0,4}[:=]\s{0,4}[\"']{0,2})[^\r\n\"']{1,8192}", re.I
)
_NAMED: Final = re.compile(
    r"(?P<before>(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_\-]?key|access[_\-]?key|private[_\-]?key|pepper"
    r"|credential|session|ticket)[A-Za-z0-9_\-]{0,20}[\"']{0,2}\s{0,4}(?:[:=]|\bis\b)\s{0,4}[\"']{0,2})"
    r"(?P<value>[^\s\"',;<>(){}\[\]]{8,4096})",
    re.I,
)
_HINTS: Final = (
    "clg", "whsec_", "y2xn", "d2hzzwnf", "k-", "k_", "aiza", "gh", "github", "glpat", "akia", "asia", "xox", "hf_",
    "eyj", "-----begin", "://",
    "authorization", "bearer", "basic ", "cookie", "passw", "passphrase", "pwd", "secret", "token", "key", "pepper",
    "credential", "session", "ticket",
)  # fmt: skip
"""Without any of these, in small letters, there is nothing to look for."""
_LEAST_BITS: Final = 2.8
"""Entropy per character from which on a value beside a word such as ``password`` is taken for a secret."""


def masked(text: str) -> str:
    """``text`` with ``[redacted]`` in place of whatever looks like a secret.

    >>> masked("postgres://me:hunter2hunter2@db/x failed with key sk-abcdefghijklmnop1234")
    'postgres://me:[redacted]@db/x failed with key [redacted]'
    """
    if len(text) < LEAST_CHARS:
        return text
    small = text.lower()
    if not any(hint in small for hint in _HINTS):
        return text
    text = _PEM.sub(MASK, text)
    text = _SHAPE.sub(MASK, text)
    text = _URL.sub(rf"\g<before>{MASK}", text)
    text = _COOKIE.sub(rf"\g<before>{MASK}", text)
    text = _HEADER.sub(_unless_a_word, text)
    return _NAMED.sub(_unless_a_word, text)


class Redactor:
    """Knows the secrets of an installation.

    Args:
        secrets: The very values; those shorter than ``LEAST_CHARS`` are left out: they would mask words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= LEAST_CHARS for form in _forms(secret)}
        # The longest first: one secret may begin another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def known(self, text: str) -> str:
        """``text`` without the secrets of this installation; what only looks like one stays."""
        return text if self._known is None else self._known.sub(MASK, text)

    def own(self, text: str) -> str:
        """``text`` without them, and without what has the shape of collegium's own keys and secrets.

        For what becomes a run's content: other people's keys may be what the work is about.
        """
        text = self.known(text)
        return _OWN.sub(MASK, text) if any(hint in text for hint in _OWN_HINTS) else text

    def text(self, text: str) -> str:
        """``text`` without them, and without whatever looks like any secret. For all that is no content."""
        return masked(self.known(text))

    def value(self, value: Any) -> Any:
        """A document of JSON as ``own`` leaves each of its texts, keys included."""
        if isinstance(value, str):
            return self.own(value)
        if isinstance(value, dict):
            return {self.value(key): self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return value


def _forms(secret: str) -> Iterable[str]:
    """A secret as it may appear: plain, in a URL, in JSON, in Base64 and in hex."""
    data = secret.encode()
    yield secret
    yield quote(secret, safe="")
    yield secret.replace("\\", "\\\\").replace('"', '\\"')
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")
    yield data.hex()


def _unless_a_word(match: re.Match[str]) -> str:
    """Masks the value, unless it is a word, a number, a path or was masked before."""
    value = match["value"]
    if MASK in value or "redacted" in value or _bits(value) < _LEAST_BITS or _is_plain(value):
        return match[0]
    return f"{match['before']}{MASK}"


def _is_plain(value: str) -> bool:
    """Whether a value is letters alone or figures alone, with marks between: no generated secret is."""
    name, equals, rest = value.partition("=")
    if equals and rest:  # ``tokens: tokens=4096``
        return _is_plain(name) and _is_plain(rest)
    letters = value.strip("._-`*!?:").replace("-", "").replace("_", "").replace(".", "").replace("/", "")
    return letters.isdigit() or (letters.isalpha() and (letters.islower() or letters.istitle() or letters.isupper()))


def _bits(value: str) -> float:
    """Shannon entropy of a text, in bits per character."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values())
