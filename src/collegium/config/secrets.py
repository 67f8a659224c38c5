"""The secrets of an installation, so that they can be taken out of whatever leaves it.

What settings and environment name: keys of providers, passwords of stores, and the contents of the files they point
to. Values of the environment count by the names of their variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from collegium.domain.redaction import Redactor

if TYPE_CHECKING:
    from collegium.config import Settings

MAX_FILE_BYTES: Final = 65_536
"""A file that is larger holds no key."""
_NAME: Final = re.compile(r"(?:^|_)(?:api_?key|key|token|secret|passw(?:or)?d|pepper|credential|kek)s?(?:_|$)", re.I)
_FILE: Final = re.compile(r"(?:key|secret|pepper|kek|password|token)\w*_file$", re.I)
_PEPPER: Final = "pepper"


def redactor_of(settings: Settings | None, environ: Mapping[str, str]) -> Redactor:
    """Knows what the settings and the environment hold; without settings what the environment holds."""
    return Redactor(secrets_of(settings, environ))


def secrets_of(settings: Settings | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The very values. Files that cannot be read are left out: whoever needs them says what is wrong."""
    found = list(_of_environ(environ))
    if settings is not None:
        found += _of_settings(settings.model_dump(mode="json"))
        found += _in_file(settings.data_dir / _PEPPER)
    return tuple(dict.fromkeys(found))


def _of_environ(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if not value:
            continue
        if "://" in value:
            yield from _password(value)
        if name.upper().endswith("_FILE"):
            if _NAME.search(name[:-5]):
                yield from _in_file(Path(value).expanduser())
        elif _NAME.search(name) and "://" not in value and not value.startswith(("/", "~", ".")):
            yield from (part for one in value.split(",") if (part := one.strip()))


def _of_settings(table: Mapping[str, Any] | list[Any]) -> Iterator[str]:
    items = table.items() if isinstance(table, Mapping) else enumerate(table)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from _of_settings(value)
        elif isinstance(value, str):
            if "://" in value:
                yield from _password(value)
            elif _FILE.search(str(key)):
                yield from _in_file(Path(value))


def _password(url: str) -> Iterator[str]:
    """The password in a URL, as it stands there and as it is meant."""
    with suppress(ValueError):
        password = urlsplit(url).password
        if password:
            yield password
            yield unquote(password)


def _in_file(path: Path) -> Iterator[str]:
    """A file as a whole, and each of its lines."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return
    yield text
    yield from (part for line in text.splitlines() for one in line.split(",") if (part := one.strip()))
