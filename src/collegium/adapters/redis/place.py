"""Where a Redis is, in words that can be shown."""

from __future__ import annotations

from urllib.parse import urlsplit

from collegium.domain.errors import UsageError

_SCHEMES = ("redis", "rediss", "unix")


def place_of(url: str) -> str:
    """Host, port and database, never a password. Raises ``UsageError`` for a URL that is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unreadable() from None
    if parts.scheme not in _SCHEMES:
        raise _unreadable()
    if parts.scheme == "unix":
        if not parts.path:
            raise _unreadable()
        return f"unix://{parts.path}"
    database = parts.path.strip("/")
    if not host or (database and not database.isdigit()):
        raise _unreadable()
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port or 6379}/{database or 0}"


def _unreadable() -> UsageError:
    # Nothing of the URL is shown: what cannot be read may hold a password anywhere.
    return UsageError(
        "the URL of Redis cannot be read: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// with TLS, or "
        "unix:///PATH; a password's special characters have to be written as %XX"
    )
