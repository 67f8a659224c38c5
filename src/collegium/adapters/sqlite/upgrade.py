"""Tables of older stores made those of this version, in place; ``schema.sql`` is what a new store begins with."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

SCHEMA: Final = 4
"""Version of the tables that this code reads and writes."""
UPGRADES: Final[Mapping[int, tuple[str, ...]]] = {
    2: (
        """CREATE TABLE tombstones (
            run    TEXT PRIMARY KEY,
            tenant TEXT NOT NULL,
            value  TEXT NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX tombstones_tenant ON tombstones (tenant, run)",
    ),
    3: (
        """CREATE TABLE checkpoints (
            id      INTEGER PRIMARY KEY AUTOINCREMENT,
            tenant  TEXT    NOT NULL,
            number  INTEGER NOT NULL,
            value   TEXT    NOT NULL,
            entries TEXT
        )""",
        "CREATE UNIQUE INDEX checkpoints_number ON checkpoints (tenant, number)",
    ),
    # No run that a release has stored belongs to a project.
    4: (
        "ALTER TABLE heads ADD COLUMN project TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX heads_project ON heads (tenant, project, run) WHERE project <> ''",
        "CREATE INDEX heads_project_status ON heads (tenant, project, status, run) WHERE project <> ''",
    ),
}
"""By version: the statements that make it of the one before."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Brings the tables up to ``SCHEMA``: all of it or nothing, once, whoever else does it at the same time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (found,) = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        for version in range(int(found) + 1, SCHEMA + 1):
            for statement in UPGRADES[version]:
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(SCHEMA),))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
