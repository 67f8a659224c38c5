"""Providers' keys: from the environment, or from a file that the environment names; several where there are several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from collegium.domain.errors import MissingKey

FILE_SUFFIX = "_FILE"


def read_keys(variables: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The keys in the first of ``variables`` that is set, or in the file that ``VARIABLE_FILE`` names; none if none is.

    Keys stand behind each other with commas between them; in a file they may also stand one on each line, and lines
    that begin with ``#`` are left out. Raises ``MissingKey`` for a file that cannot be read or holds none, and for
    characters that no key has.
    """
    for variable in variables:
        if keys := _named(environ.get(variable, "").split(",")):
            return _checked(keys, variable)
        path = environ.get(variable + FILE_SUFFIX, "").strip()
        if path:
            return _checked(_in_file(path, variable + FILE_SUFFIX), variable + FILE_SUFFIX)
    return ()


def has_key(variables: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether one of ``variables`` is set, or names a file."""
    return any(environ.get(v, "").strip() or environ.get(v + FILE_SUFFIX, "").strip() for v in variables)


def fingerprint(key: str) -> str:
    """What a key is called where it must not be shown, the same in every process."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def _named(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(p for part in parts if (p := part.strip())))


def _in_file(path: str, variable: str) -> tuple[str, ...]:
    try:
        lines = Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingKey(
            f"the file {path} that {variable} names cannot be read: {error}", variables=(variable,)
        ) from None
    keys = _named(part for line in lines if not line.lstrip().startswith("#") for part in line.split(","))
    if not keys:
        raise MissingKey(f"the file {path} that {variable} names holds no key", variables=(variable,))
    return keys


def _checked(keys: tuple[str, ...], variable: str) -> tuple[str, ...]:
    for key in keys:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise MissingKey(f"{variable} holds characters that no key has: set it again", variables=(variable,))
    return keys
