"""The one place that opens SQLite files, in plain or, with a key, through SQLCipher.

Both drivers may work in one process. SQLCipher's is another module with exceptions of its own; its cursors here raise
those of ``sqlite3`` instead, with the same code, so that nobody else has to know which driver a connection is of. No
file may be open through both at once: each would drop the locks of the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote

from collegium.adapters.encryption.file_key import FileKey
from collegium.domain.errors import MissingExtra

T = TypeVar("T")
_ON_CURSORS: Final = ("execute", "executemany", "executescript", "fetchone", "fetchmany", "fetchall", "__next__")
_ON_CONNECTIONS: Final = ("commit", "rollback", "close")
_ERRORS: Final = (
    "IntegrityError", "OperationalError", "ProgrammingError", "InternalError", "DataError", "NotSupportedError",
    "DatabaseError", "InterfaceError", "Error",
)  # fmt: skip
"""The narrowest first."""
MISSING: Final = "an SQLite file that is encrypted needs the extra [sqlcipher]: pip install 'collegium[sqlcipher]'"


def open_file(
    path: Path,
    key: FileKey | None = None,
    *,
    timeout_s: float,
    isolation_level: Literal["DEFERRED"] | None = None,
    is_read_only: bool = False,
) -> sqlite3.Connection:
    """A connection that may be passed between threads; with ``key``, to a file that is encrypted as a whole.

    Args:
        path: The file; made if it is missing, unless ``is_read_only``.
        key: Its key. A wrong one is found by the first statement that reads: ``SQLITE_NOTADB``.
        timeout_s: How long a statement waits for a lock.
        isolation_level: As ``sqlite3`` has it; None leaves transactions to the user.
        is_read_only: Whether nothing may be written.

    Raises:
        MissingExtra: there is a key, and SQLCipher is not installed.
        sqlite3.Error: the file cannot be opened.
    """
    place = f"file:{quote(str(path.absolute()))}?mode=ro" if is_read_only else str(path)
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect if key is None else _encrypting()
    connection = connect(
        place,
        timeout=timeout_s,
        isolation_level=isolation_level,
        check_same_thread=False,
        cached_statements=256,
        uri=is_read_only,
    )
    if key is not None:
        try:
            connection.execute(key.pragma)
            # As version 4 writes files, also where a later one would do it otherwise.
            connection.execute("PRAGMA cipher_compatibility = 4")
        except BaseException:
            connection.close()
            raise
    return connection


@cache
def _encrypting() -> Callable[..., sqlite3.Connection]:
    """What connects through SQLCipher, as ``sqlite3.connect`` does; imported by the first file that needs it."""
    if find_spec("sqlcipher3") is None:
        raise MissingExtra(MISSING)
    driver: Any = import_module("sqlcipher3.dbapi2")
    pairs = tuple((getattr(driver, name), getattr(sqlite3, name)) for name in _ERRORS)

    def translating(method: Callable[..., T]) -> Callable[..., T]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> T:
            try:
                return method(*args, **kwargs)
            except driver.Error as error:
                raise _same(error, pairs) from error

        return call

    cursor = type("Cursor", (driver.Cursor,), {n: translating(getattr(driver.Cursor, n)) for n in _ON_CURSORS})
    methods = {name: translating(getattr(driver.Connection, name)) for name in _ON_CONNECTIONS}
    methods["cursor"] = translating(lambda self: driver.Connection.cursor(self, cursor))
    connection = type("Connection", (driver.Connection,), methods)
    return translating(lambda *args, **kwargs: driver.connect(*args, factory=connection, **kwargs))


def _same(error: Exception, pairs: tuple[tuple[type[Exception], type[sqlite3.Error]], ...]) -> sqlite3.Error:
    """The error as ``sqlite3`` has it."""
    kind = next(ours for theirs, ours in pairs if isinstance(error, theirs))
    same = kind(*error.args)
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        same.sqlite_errorcode = code
        same.sqlite_errorname = getattr(error, "sqlite_errorname", kind.__name__)
    return same
