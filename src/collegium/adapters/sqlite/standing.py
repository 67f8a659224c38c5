"""Whether the file that a connection writes to still stands where its path says.

A deleted file goes on to exist for whoever has it open: SQLite in WAL mode would commit to it, with success, until the
process ends and all of it is gone. So every commit is acknowledged only after a look at the path.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from itertools import count
from pathlib import Path

from collegium.domain.errors import StoreCorrupt

_log = logging.getLogger("collegium.store")


class Standing:
    """The place of one store file, from the moment it was opened.

    Args:
        path: The file; it exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._identity = self._look()
        self._lost: str | None = None

    def check(self, connection: sqlite3.Connection | None) -> None:
        """Returns where the file stands as it was opened; a look takes about two microseconds.

        Where it does not, what ``connection`` still holds of it is saved beside it, once.

        Raises:
            StoreCorrupt: It was deleted, replaced or emptied; nothing more may be written, now or later.
        """
        if self._lost is None:
            now = self._look()
            if now == self._identity:
                return
            what = "deleted" if now is None else "emptied" if now[2] else "replaced by another file"
            self._lost = (
                f"{self._path} was {what} while it was in use, and nothing more is written: {self._save(connection)}"
            )
            _log.error(self._lost)
        raise StoreCorrupt(self._lost, path=str(self._path))

    def _look(self) -> tuple[int, int, bool] | None:
        try:
            found = os.stat(self._name)  # noqa: PTH116 once with every commit, at a third of the cost
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size == 0

    def _save(self, connection: sqlite3.Connection | None) -> str:
        """Writes all that was committed to a new file beside the lost one; says where, and what to do."""
        rescued = next(p for n in count(1) if not (p := self._path.with_name(f"{self._path.name}.rescued{n}")).exists())
        try:
            if connection is None:
                raise sqlite3.OperationalError("it is not open")
            connection.execute("VACUUM INTO ?", (str(rescued),))
        except sqlite3.Error as error:
            return f"what it held could not be saved ({error}); restore it from a backup"
        return f"all that was acknowledged is in {rescued}; end this process, then move that file to {self._path}"
