"""Paths inside a run's work folder, as models write them."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from collegium.domain.errors import ToolError

LIMIT_PATH_BYTES: Final = 1024
LIMIT_NAME_BYTES: Final = 200
"""Longest name of a file or folder in UTF-8. File systems take 255; a file has a longer name while it is written."""
LIMIT_FOLDERS: Final = 32

_DRIVE: Final = re.compile(r"[A-Za-z]:")


def work_path(path: str) -> tuple[str, ...]:
    """The names that lead from the work folder to a file; joined with / they are the file's path.

    ``./a`` and ``a/./b`` are ``a`` and ``a/b``. Everything that could lead elsewhere, on any system, is
    refused rather than mended.

    Raises:
        ToolError: The path is empty, absolute, leaves the folder, is too long or holds a character that names
            no file. The text says which and what to send instead.
    """
    if not path.strip():
        raise _refused(path, "it is empty", "name a file, for example notes.md")
    _check_characters(path)
    names = tuple(name for name in path.split("/") if name != ".")
    if path.startswith("/") or (names and (names[0].startswith("~") or _DRIVE.match(names[0]))):
        raise _refused(path, "it does not start in the work folder", "use a relative path such as reports/summary.md")
    if path.endswith("/"):
        raise _refused(path, "it names a folder", "name a file in it; folders are made as needed")
    if ".." in names:
        raise _refused(path, "it leaves the work folder (..)", "use a path below it")
    if "" in names or not names:
        raise _refused(path, "it has an empty name in it", "write it with single slashes")
    _check_sizes(path, names)
    return names


def _check_characters(path: str) -> None:
    if "\\" in path:
        raise _refused(path, "it has a backslash", "separate folders with /")
    for character in path:
        # Control characters (NUL among them), lone surrogates, and invisible ones that make two paths look alike.
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise _refused(path, f"it has the unprintable character U+{ord(character):04X}", "leave it out")


def _check_sizes(path: str, names: tuple[str, ...]) -> None:
    size = len(path.encode())
    if size > LIMIT_PATH_BYTES:
        raise _refused(path, f"it is {size:,} bytes long, at most {LIMIT_PATH_BYTES:,}", "use a shorter one")
    longest = max(len(name.encode()) for name in names)
    if longest > LIMIT_NAME_BYTES:
        raise _refused(path, f"a name in it is {longest} bytes long, at most {LIMIT_NAME_BYTES}", "use a shorter one")
    if len(names) - 1 > LIMIT_FOLDERS:
        raise _refused(path, f"it is {len(names) - 1} folders deep, at most {LIMIT_FOLDERS}", "use fewer folders")
    if any(name != name.strip() for name in names):
        raise _refused(path, "a name in it starts or ends with a space", "leave the space out")


def _refused(path: str, why: str, act: str) -> ToolError:
    shown = path if len(path) <= 120 else path[:117] + "..."
    return ToolError(f"the path {shown!r} is refused: {why}; {act}", path=shown)
