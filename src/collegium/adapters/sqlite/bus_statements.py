"""Tables and statements of the SQLite bus."""

# ruff: noqa: S608 statements are put together from the constants of this file; all values are bound

from __future__ import annotations

from functools import cache
from typing import Final

from collegium.adapters.sqlite.connection import union

VERSION: Final = 1
SCHEMA: Final = (
    """CREATE TABLE messages (
        seq          INTEGER PRIMARY KEY AUTOINCREMENT,
        topic        TEXT    NOT NULL,
        id           TEXT    NOT NULL,
        tenant       TEXT    NOT NULL,
        body         TEXT    NOT NULL,
        priority     INTEGER NOT NULL,
        published_at REAL    NOT NULL,
        settled      INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX messages_topic ON messages (topic, seq)",
    "CREATE UNIQUE INDEX messages_unsettled ON messages (topic, id) WHERE settled = 0",
    "CREATE TABLE groups (topic TEXT NOT NULL, grp TEXT NOT NULL, PRIMARY KEY (topic, grp)) WITHOUT ROWID",
    # One row per message and group that has not settled it. Claimed and delayed rows are hidden.
    """CREATE TABLE work (
        seq        INTEGER NOT NULL,
        grp        TEXT    NOT NULL,
        topic      TEXT    NOT NULL,
        rank       REAL    NOT NULL,
        hidden     INTEGER NOT NULL DEFAULT 0,
        visible_at REAL    NOT NULL DEFAULT 0,
        deliveries INTEGER NOT NULL DEFAULT 0,
        token      TEXT,
        PRIMARY KEY (seq, grp)
    ) WITHOUT ROWID""",
    "CREATE INDEX work_ready ON work (topic, grp, rank, seq) WHERE hidden = 0",
    "CREATE INDEX work_hidden ON work (topic, visible_at) WHERE hidden = 1",
)

PUBLISH: Final = (
    "INSERT INTO messages (topic, id, tenant, body, priority, published_at) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (topic, id) WHERE settled = 0 DO NOTHING"
)
QUEUE: Final = "INSERT INTO work (seq, grp, topic, rank) SELECT ?, grp, topic, ? FROM groups WHERE topic = ?"
JOIN: Final = "INSERT INTO groups (topic, grp) VALUES (?, ?) ON CONFLICT DO NOTHING"
CATCH_UP: Final = (
    "INSERT INTO work (seq, grp, topic, rank) SELECT seq, ?, topic, published_at + priority * ? FROM messages "
    "WHERE topic = ? AND settled = 0"
)
CLAIM: Final = (
    "UPDATE work SET hidden = 1, visible_at = ?, token = ?, deliveries = deliveries + 1 WHERE seq = ? AND grp = ?"
)
SETTLE: Final = "DELETE FROM work WHERE seq = ? AND grp = ? AND token = ?"
SETTLED: Final = "UPDATE messages SET settled = 1 WHERE seq = ?"
REQUEUE: Final = "UPDATE work SET hidden = 1, visible_at = ?, token = NULL WHERE seq = ? AND grp = ? AND token = ?"
NEXT: Final = "SELECT visible_at FROM work WHERE topic = ? AND hidden = 1 ORDER BY visible_at LIMIT 1"
SHOW: Final = "UPDATE work SET hidden = 0 WHERE topic = ? AND hidden = 1 AND visible_at <= ?"
IS_READY: Final = "SELECT 1 FROM work WHERE topic = ? AND hidden = 0 LIMIT 1"
# For DISTINCT, SQLite would walk the index of all topics.
NEW_TOPICS: Final = "SELECT topic FROM messages NOT INDEXED WHERE seq > ?"
LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM messages"
_MESSAGE: Final = "SELECT seq, topic, id, tenant, body, priority FROM messages"
MESSAGE: Final = f"{_MESSAGE} WHERE seq = ?"
READ: Final = f"{_MESSAGE} WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
DEPTH: Final = """
    SELECT CASE WHEN EXISTS (SELECT 1 FROM groups WHERE topic = ?)
    THEN (SELECT count(DISTINCT seq) FROM work WHERE topic = ? AND (hidden = 0 OR token IS NULL OR visible_at <= ?))
    ELSE (SELECT count(*) FROM messages WHERE topic = ?) END
"""
_MAY_GO: Final = """
    (settled = 1 OR NOT EXISTS (SELECT 1 FROM groups g WHERE g.topic = messages.topic))
    AND NOT EXISTS (SELECT 1 FROM work w WHERE w.seq = messages.seq)
"""
TRIM: Final = f"""
    DELETE FROM messages WHERE topic = ?
    AND seq <= (SELECT m.seq FROM messages m WHERE m.topic = ? ORDER BY m.seq DESC LIMIT 1 OFFSET ?) AND {_MAY_GO}
"""
EXPIRE: Final = f"""
    DELETE FROM messages WHERE seq IN (SELECT seq FROM messages ORDER BY seq LIMIT 256)
    AND published_at <= ? AND {_MAY_GO}
"""


@cache
def ready(topics: int) -> str:
    """The best unclaimed work of so many topics: values are (topic, group, limit) for each, then the limit."""
    select = (
        "SELECT seq, deliveries, rank FROM work WHERE topic = ? AND grp = ? AND hidden = 0 ORDER BY rank, seq LIMIT ?"
    )
    return f"SELECT seq, deliveries FROM ({union([select] * topics)}) ORDER BY rank, seq LIMIT ?"
