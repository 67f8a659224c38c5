"""Tables and statements of the SQLite bus."""

# ruff: noqa: S608 statements are put together from the constants of this file; all values are bound

from __future__ import annotations

from functools import cache
from typing import Final

from collegium.adapters.sqlite.connection import union

VERSION: Final = 3
SCHEMA: Final = (
    # A message of a work topic goes with its last settlement; of the others, readers see the settled ones too. The
    # newest message never goes, so that numbers only grow: AUTOINCREMENT would write one page more for each message.
    """CREATE TABLE messages (
        seq          INTEGER PRIMARY KEY,
        topic        TEXT    NOT NULL,
        id           TEXT    NOT NULL,
        tenant       TEXT    NOT NULL,
        body         TEXT    NOT NULL,
        priority     INTEGER NOT NULL,
        reply_to     TEXT,
        published_at REAL    NOT NULL,
        due_at       REAL    NOT NULL,
        expires_at   REAL,
        work         INTEGER NOT NULL,
        settled      INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX messages_topic ON messages (topic, seq) WHERE work = 0",
    "CREATE UNIQUE INDEX messages_unsettled ON messages (topic, id) WHERE settled = 0",
    "CREATE INDEX messages_expiring ON messages (topic, expires_at) WHERE settled = 0 AND expires_at IS NOT NULL",
    # How many rows of work each group has: counting them would take as long as there are many. The group '' stands for
    # whoever will be the first to claim from a work topic.
    """CREATE TABLE groups (
        topic   TEXT    NOT NULL,
        grp     TEXT    NOT NULL,
        waiting INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (topic, grp)
    ) WITHOUT ROWID""",
    # One row per message and group that has not settled it. Claimed and delayed rows are hidden.
    """CREATE TABLE work (
        seq        INTEGER NOT NULL,
        grp        TEXT    NOT NULL,
        topic      TEXT    NOT NULL,
        tenant     TEXT    NOT NULL,
        rank       REAL    NOT NULL,
        hidden     INTEGER NOT NULL,
        visible_at REAL    NOT NULL,
        expires_at REAL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        lapses     INTEGER NOT NULL DEFAULT 0,
        token      TEXT,
        PRIMARY KEY (seq, grp)
    ) WITHOUT ROWID""",
    "CREATE INDEX work_ready ON work (topic, grp, tenant, rank, seq) WHERE hidden = 0",
    "CREATE INDEX work_hidden ON work (topic, visible_at) WHERE hidden = 1",
    "CREATE INDEX work_expiring ON work (topic, expires_at) WHERE expires_at IS NOT NULL",
    # One row per group, tenant and topic: how far the tenant is, the same on all topics. One that is open may have
    # something to claim; one that is not has nothing.
    """CREATE TABLE lanes (
        grp    TEXT    NOT NULL,
        tenant TEXT    NOT NULL,
        topic  TEXT    NOT NULL,
        turn   REAL    NOT NULL,
        open   INTEGER NOT NULL,
        PRIMARY KEY (grp, tenant, topic)
    ) WITHOUT ROWID""",
    "CREATE INDEX lanes_open ON lanes (grp, topic, turn, tenant) WHERE open = 1",
    # How far each group is: a tenant that had nothing to do goes on from there.
    "CREATE TABLE turns (grp TEXT PRIMARY KEY, present REAL NOT NULL) WITHOUT ROWID",
    """CREATE TABLE letters (
        topic        TEXT    NOT NULL,
        seq          INTEGER NOT NULL,
        grp          TEXT    NOT NULL,
        reason       TEXT    NOT NULL,
        at           REAL    NOT NULL,
        deliveries   INTEGER NOT NULL,
        id           TEXT    NOT NULL,
        tenant       TEXT    NOT NULL,
        body         TEXT    NOT NULL,
        priority     INTEGER NOT NULL,
        reply_to     TEXT,
        published_at REAL    NOT NULL,
        due_at       REAL    NOT NULL,
        expires_at   REAL,
        work         INTEGER NOT NULL,
        PRIMARY KEY (topic, seq, grp)
    ) WITHOUT ROWID""",
)
_OWN: Final = "topic, id, tenant, body, priority, reply_to, published_at, due_at, expires_at, work"
_MESSAGE: Final = "seq, topic, id, tenant, body, priority, reply_to, published_at, expires_at"

PUBLISH: Final = f"INSERT INTO messages ({_OWN})"
PUBLISH_ONCE: Final = "ON CONFLICT (topic, id) WHERE settled = 0 DO NOTHING"
LAST_SEQ: Final = "SELECT coalesce(max(seq), 0) FROM messages"
PUBLISH_ONE: Final = f"{PUBLISH} VALUES ({', '.join('?' * len(_OWN.split(', ')))}) {PUBLISH_ONCE}"
QUEUE_ONE: Final = """
    INSERT INTO work (seq, grp, topic, tenant, rank, hidden, visible_at, expires_at)
    SELECT ?, grp, topic, ?, ?, ?, ?, ? FROM groups WHERE topic = ? AND grp > ''
"""
QUEUE: Final = """
    INSERT INTO work (seq, grp, topic, tenant, rank, hidden, visible_at, expires_at)
    SELECT m.seq, g.grp, m.topic, m.tenant, m.due_at + m.priority * ?, m.due_at > ?, m.due_at, m.expires_at
    FROM messages m CROSS JOIN groups g ON g.topic = m.topic AND g.grp > '' WHERE m.seq > ?
"""
_ONWARD: Final = "coalesce((SELECT max(l.turn) FROM lanes l WHERE l.grp = {grp} AND l.tenant = {tenant}), 0.0), 1"
_REOPEN: Final = "ON CONFLICT (grp, tenant, topic) DO UPDATE SET open = 1 WHERE open = 0"
OPEN: Final = f"""
    INSERT INTO lanes (grp, tenant, topic, turn, open)
    SELECT g.grp, ?1, g.topic, {_ONWARD.format(grp="g.grp", tenant="?1")} FROM groups g
    WHERE g.topic = ?2 AND g.grp > '' {_REOPEN}
"""
# How much waits for the slowest group, and whether the tenant's lanes are all open.
LOOK: Final = """
    SELECT max(g.waiting), min(g.grp = '' OR EXISTS (
        SELECT 1 FROM lanes l WHERE l.grp = g.grp AND l.tenant = ?1 AND l.topic = ?2 AND l.open = 1
    )) FROM groups g WHERE g.topic = ?2
"""
NEW: Final = "SELECT topic, count(*) FROM messages NOT INDEXED WHERE seq > ? GROUP BY topic"
ADD: Final = "UPDATE groups SET waiting = waiting + ? WHERE topic = ?"
ADD_FIRST: Final = "INSERT INTO groups (topic, grp, waiting) VALUES (?, '', ?)"
RECOUNT: Final = """
    UPDATE groups SET waiting = (SELECT count(*) FROM messages WHERE topic = ?1 AND settled = 0)
    WHERE topic = ?1 AND grp = ''
"""
NOT_FIRST: Final = "DELETE FROM groups WHERE topic = ? AND grp = ''"
ADD_ONE: Final = "UPDATE groups SET waiting = waiting + 1 WHERE topic = ? AND grp = ?"
TAKE_ONE: Final = "UPDATE groups SET waiting = waiting - 1 WHERE topic = ? AND grp = ?"
START: Final = "UPDATE groups SET waiting = ? WHERE topic = ? AND grp = ?"
JOIN: Final = "INSERT INTO groups (topic, grp) VALUES (?, ?) ON CONFLICT DO NOTHING"
CATCH_UP: Final = """
    INSERT INTO work (seq, grp, topic, tenant, rank, hidden, visible_at, expires_at)
    SELECT seq, ?, topic, tenant, due_at + priority * ?, due_at > ?, due_at, expires_at FROM messages
    WHERE topic = ? AND settled = 0
"""
TENANTS: Final = "SELECT DISTINCT tenant FROM messages WHERE topic = ? AND settled = 0"

# Where nobody else has ever been, turns need not be counted.
PRESENT: Final = """
    SELECT coalesce((SELECT present FROM turns WHERE grp = ?1), 0.0),
    EXISTS (SELECT 1 FROM lanes WHERE grp = ?1 AND tenant > ?2)
    OR EXISTS (SELECT 1 FROM lanes WHERE grp = ?1 AND tenant < ?2)
"""
ADVANCE: Final = "UPDATE lanes SET turn = ? WHERE grp = ? AND tenant = ?"
MOVE: Final = (
    "INSERT INTO turns (grp, present) VALUES (?, ?) ON CONFLICT (grp) DO UPDATE SET present = excluded.present"
)
CLOSE: Final = "UPDATE lanes SET open = 0 WHERE grp = ? AND tenant = ? AND topic = ?"
CLAIM: Final = (
    "UPDATE work SET hidden = 1, visible_at = ?, token = ?, deliveries = deliveries + 1 WHERE seq = ? AND grp = ?"
)

IS_CLAIMED: Final = "SELECT 1 FROM work WHERE seq = ? AND grp = ? AND token = ?"
SETTLE: Final = "DELETE FROM work WHERE seq = ? AND grp = ? AND token = ?"
DROP: Final = "DELETE FROM work WHERE seq = ? AND grp = ?"
DONE: Final = """
    DELETE FROM messages WHERE seq = ?1 AND work = 1 AND NOT EXISTS (SELECT 1 FROM work WHERE seq = ?1)
    AND seq < (SELECT max(seq) FROM messages)
"""
SETTLED: Final = "UPDATE messages SET settled = 1 WHERE seq = ? AND settled = 0"
REQUEUE: Final = "UPDATE work SET hidden = 1, visible_at = ?, token = NULL WHERE seq = ? AND grp = ? AND token = ?"

NEXT: Final = "SELECT visible_at FROM work WHERE topic = ? AND hidden = 1 ORDER BY visible_at LIMIT 1"
LAPSED: Final = (
    "SELECT seq, grp, lapses + 1 FROM work WHERE topic = ? AND hidden = 1 AND visible_at <= ? AND token IS NOT NULL "
    "AND lapses + 1 >= ?"
)
OPEN_DUE: Final = f"""
    INSERT INTO lanes (grp, tenant, topic, turn, open)
    SELECT w.grp, w.tenant, w.topic, {_ONWARD.format(grp="w.grp", tenant="w.tenant")}
    FROM work w WHERE w.topic = ? AND w.hidden = 1 AND w.visible_at <= ? {_REOPEN}
"""
SHOW: Final = (
    "UPDATE work SET hidden = 0, lapses = lapses + (token IS NOT NULL) "
    "WHERE topic = ? AND hidden = 1 AND visible_at <= ?"
)
BURY: Final = f"""
    INSERT INTO letters (seq, grp, reason, at, deliveries, {_OWN})
    SELECT w.seq, w.grp, ?, ?, w.deliveries, {", ".join(f"m.{name}" for name in _OWN.split(", "))}
    FROM work w JOIN messages m ON m.seq = w.seq WHERE w.seq = ? AND w.grp = ?
    ON CONFLICT (topic, seq, grp) DO UPDATE SET reason = excluded.reason, at = excluded.at
"""
LETTERS: Final = (
    f"SELECT {_MESSAGE}, deliveries, grp, reason, at FROM letters WHERE topic = ? AND seq > ? ORDER BY seq, grp LIMIT ?"
)
UNEARTH: Final = f"""
    INSERT INTO messages (seq, settled, {_OWN}) SELECT seq, 1, {_OWN} FROM letters
    WHERE topic = ? AND seq = ? AND grp = ? ON CONFLICT (seq) DO NOTHING
"""
UNSETTLE: Final = "UPDATE OR IGNORE messages SET settled = 0 WHERE seq = ?"
REVIVE: Final = """
    INSERT INTO work (seq, grp, topic, tenant, rank, hidden, visible_at, expires_at)
    SELECT seq, grp, topic, tenant, ? + priority * ?, 0, 0, expires_at FROM letters
    WHERE topic = ? AND seq = ? AND grp = ?
"""
FORGET: Final = "DELETE FROM letters WHERE topic = ? AND seq = ? AND grp = ?"

EXPIRED: Final = (
    "SELECT seq, grp FROM work WHERE topic = ? AND expires_at <= ? AND (hidden = 0 OR token IS NULL) LIMIT 10000"
)
EXPIRE: Final = "UPDATE messages SET settled = 1 WHERE topic = ? AND settled = 0 AND expires_at <= ?"

IS_READY: Final = "SELECT 1 FROM work WHERE topic = ? AND hidden = 0 LIMIT 1"
# For DISTINCT, SQLite would walk the index of all topics. Delayed work is no news yet.
NEW_TOPICS: Final = "SELECT topic FROM messages NOT INDEXED WHERE seq > ? AND NOT (work AND due_at > published_at)"
READ: Final = (
    f"SELECT {_MESSAGE} FROM messages WHERE topic = ? AND work = 0 AND seq > ? AND published_at >= ? "
    "ORDER BY seq LIMIT ?"
)
TOPICS: Final = """
    SELECT topic FROM groups WHERE topic > ?1 UNION SELECT topic FROM letters WHERE topic > ?1
    UNION SELECT topic FROM messages WHERE topic > ?1 AND work = 0
    UNION SELECT topic FROM messages WHERE topic > ?1 AND settled = 0 ORDER BY topic LIMIT ?2
"""

GROUPS: Final = "SELECT count(*) FROM groups WHERE topic = ? AND grp > ''"
UNCLAIMED: Final = """
    SELECT (SELECT count(*) FROM messages WHERE topic = ?1 AND settled = 0)
    - (SELECT count(*) FROM messages WHERE topic = ?1 AND settled = 0 AND expires_at <= ?2)
"""
DEPTH_OF_ONE: Final = """
    SELECT (SELECT waiting FROM groups WHERE topic = ?1 AND grp > '')
    - (SELECT count(*) FROM work WHERE topic = ?1 AND hidden = 1 AND token IS NOT NULL AND visible_at > ?2)
    - (SELECT count(*) FROM work WHERE topic = ?1 AND expires_at <= ?2
       AND (hidden = 0 OR token IS NULL OR visible_at <= ?2))
"""
DEPTH_OF_MANY: Final = """
    SELECT count(DISTINCT seq) FROM (
        SELECT seq, expires_at FROM work WHERE topic = ?1 AND hidden = 0
        UNION ALL SELECT seq, expires_at FROM work WHERE topic = ?1 AND hidden = 1
        AND (token IS NULL OR visible_at <= ?2)
    ) WHERE expires_at IS NULL OR expires_at > ?2
"""

_MAY_GO: Final = """
    (settled = 1 OR NOT EXISTS (SELECT 1 FROM groups g WHERE g.topic = messages.topic AND g.grp > ''))
    AND NOT EXISTS (SELECT 1 FROM work w WHERE w.seq = messages.seq) AND seq < (SELECT max(seq) FROM messages)
"""
TRIM: Final = f"""
    DELETE FROM messages WHERE topic = ?1 AND work = 0 AND seq <= (
        SELECT m.seq FROM messages m WHERE m.topic = ?1 AND m.work = 0 ORDER BY m.seq DESC LIMIT 1 OFFSET ?2
    ) AND {_MAY_GO}
"""
SWEPT: Final = "SELECT max(seq), count(*) FROM (SELECT seq FROM messages WHERE seq > ? ORDER BY seq LIMIT ?)"
SWEEP: Final = f"""
    DELETE FROM messages WHERE seq > ? AND seq <= ? AND (published_at <= ? OR expires_at <= ? OR work AND settled)
    AND {_MAY_GO}
"""
FORGET_OLD: Final = "DELETE FROM letters WHERE at <= ?"
FORGET_MANY: Final = """
    DELETE FROM letters WHERE topic = ?1 AND seq <= (
        SELECT l.seq FROM letters l WHERE l.topic = ?1 ORDER BY l.seq DESC LIMIT 1 OFFSET ?2
    )
"""
LEAVE: Final = "DELETE FROM lanes WHERE open = 0 AND turn <= (SELECT present FROM turns WHERE turns.grp = lanes.grp)"


@cache
def has_open(topics: int) -> str:
    """Whether anything may be claimed: values are (group, topic) for each topic."""
    one = "EXISTS (SELECT 1 FROM lanes WHERE grp = ? AND topic = ? AND open = 1)"
    return f"SELECT {' OR '.join([one] * topics)}"


@cache
def open_lanes(topics: int) -> str:
    """The two tenants of each topic that are least far, in no order: values are (group, topic) for each."""
    select = "SELECT turn, tenant FROM lanes WHERE grp = ? AND topic = ? AND open = 1 ORDER BY turn, tenant LIMIT 2"
    return select if topics == 1 else union([select] * topics)


@cache
def first_of(topics: int) -> str:
    """What a tenant can claim first of each topic, in no order: values are (topic, group, tenant, limit) for each."""
    columns = ", ".join(f"m.{name}" for name in _MESSAGE.split(", "))
    select = (
        f"SELECT {columns}, w.deliveries + 1, w.rank FROM work w CROSS JOIN messages m ON m.seq = w.seq "
        "WHERE w.topic = ? AND w.grp = ? AND w.tenant = ? AND w.hidden = 0 ORDER BY w.rank, w.seq LIMIT ?"
    )
    return select if topics == 1 else union([select] * topics)
