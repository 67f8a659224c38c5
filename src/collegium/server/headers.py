"""Security headers: what is sent is data, for whoever asked, and for no page that wants to look at it or frame it.

Source: OWASP REST Security Cheat Sheet; RFC 6797 (HSTS); W3C Content Security Policy Level 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_DATA_POLICY: Final = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
_PAGE_POLICY: Final = b"frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_POLICY: Final = b"content-security-policy"
_OF_DATA: Final = (*_ALWAYS, (_POLICY, _DATA_POLICY))
STANDING: Final = b"ratelimit"
"""The header that is another one in each answer; it is the last."""
_NAMES: Final = frozenset({*(name for name, _ in _OF_DATA), _HSTS[0]})


def with_security(given: Iterable[tuple[bytes, bytes]], *, is_tls: bool) -> list[tuple[bytes, bytes]]:
    """The headers ``given`` of an answer with these beside them; one that is there already stays as it is.

    An answer that is no HTML may do nothing at all in a browser. A page (the API's document, the console) brings a
    policy of its own; one that brings none may at least not be framed.
    """
    headers = list(given)
    is_plain = not is_tls and (b"content-type", b"application/json") in headers
    if is_plain and _NAMES.isdisjoint([name for name, _ in headers]):  # nearly all answers
        headers.extend(_OF_DATA)
        return headers
    names = {name.lower(): value for name, value in headers}
    headers += [one for one in _ALWAYS if one[0] not in names]
    if is_tls and _HSTS[0] not in names:
        headers.append(_HSTS)
    if _POLICY not in names:
        is_page = names.get(b"content-type", b"").startswith(b"text/html")
        headers.append((_POLICY, _PAGE_POLICY if is_page else _DATA_POLICY))
    return headers
