"""What the URL of a store names."""

from __future__ import annotations

from pathlib import Path

from collegium.domain.errors import UsageError


def is_postgres(url: str) -> bool:
    """Whether ``url`` names a PostgreSQL store."""
    return url.partition(":")[0] in ("postgresql", "postgres")


def sqlite_path(url: str) -> Path:
    """The file that ``sqlite:///PATH`` names. Raises ``UsageError`` for any other URL."""
    scheme, separator, rest = url.partition(":///")
    if scheme != "sqlite" or not separator or not rest:
        shown = f"{url.partition('://')[0]}://...@{url.rpartition('@')[2]}" if "@" in url else url
        raise UsageError(
            f"the store {shown!r} cannot be opened: this version knows sqlite:///PATH and "
            "postgresql://USER:PASSWORD@HOST/DATABASE",
            store=shown,
        )
    return Path(rest).expanduser()
