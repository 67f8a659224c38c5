"""What the SQLite bus does within one transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from collegium.adapters.bus_rules import BusRules, lapsed, topic_full
from collegium.adapters.sqlite import bus_statements as sql
from collegium.adapters.sqlite.connection import insert_rows
from collegium.domain.message import Letter, Message, is_work

Row = Sequence[Any]
_SWEPT: Final = 256


def row_of(message: Message, body: bytes, *, now: float, due: float) -> Row:
    """The message as ``sql.PUBLISH`` takes it."""
    return (
        message.topic,
        message.id,
        message.tenant,
        body.decode(),
        message.priority,
        message.reply_to,
        now,
        due,
        None if message.expires_at is None else message.expires_at.timestamp(),
        is_work(message.topic),
    )


def to_message(row: Row, *, deliveries: int = 0) -> Message:
    """The message that begins a row."""
    seq, topic, id_, tenant, body, priority, reply_to, published_at, expires_at = row[:9]
    return Message(
        id=id_,
        topic=topic,
        tenant=tenant,
        body=msgspec.json.decode(body),
        priority=priority,
        reply_to=reply_to,
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
        seq=seq,
        at=datetime.fromtimestamp(published_at, UTC),
        deliveries=deliveries,
    )


def to_letter(row: Row) -> Letter:
    """A row of ``sql.LETTERS``."""
    deliveries, group, reason, at = row[9:]
    message = to_message(row, deliveries=deliveries)
    return Letter(message=message, group=group, reason=reason, at=datetime.fromtimestamp(at, UTC))


def publish(connection: sqlite3.Connection, rows: Sequence[Row], *, now: float, rules: BusRules) -> int:
    """Stores messages that are new; returns how many were. They wait for every group of their topics."""
    if len(rows) == 1 and _publish_one(connection, rows[0], now=now, rules=rules):
        return 1
    (before,) = connection.execute(sql.LAST_SEQ).fetchone()
    new = _insert(connection, rows) if len(rows) > 1 else 0
    if new < len(rows):
        for topic in {row[0] for row in rows}:
            if connection.execute(sql.EXPIRE, (topic, now)).rowcount:
                new += _insert(connection, [row for row in rows if row[0] == topic])
    if new:
        connection.execute(sql.QUEUE, (rules.aging_s, now, before))
        for topic, count in connection.execute(sql.NEW, (before,)).fetchall():
            tenants = {row[2] for row in rows if row[0] == topic}
            _add(connection, topic, tenants, count, now=now, rules=rules)
    return new


def _publish_one(connection: sqlite3.Connection, row: Row, *, now: float, rules: BusRules) -> bool:
    """The same for one message, which most publications are, with less effort."""
    cursor = connection.execute(sql.PUBLISH_ONE, row)
    if cursor.rowcount != 1:
        return False
    topic, _, tenant, _, priority, _, _, due, expires, _ = row
    rank = due + priority * rules.aging_s
    connection.execute(sql.QUEUE_ONE, (cursor.lastrowid, tenant, rank, due > now, due, expires, topic))
    _add(connection, topic, (tenant,), 1, now=now, rules=rules)
    return True


def _add(
    connection: sqlite3.Connection, topic: str, tenants: Iterable[str], count: int, *, now: float, rules: BusRules
) -> None:
    """Counts messages that wait now, and opens their tenants' lanes. Raises ``TopicFull`` where so many do not fit."""
    if connection.execute(sql.ADD, (count, topic)).rowcount == 0:
        if not is_work(topic):
            return  # it is only read: nobody is waited for
        connection.execute(sql.ADD_FIRST, (topic, count))
    waiting = 0
    for tenant in tenants:
        waiting, is_open = connection.execute(sql.LOOK, (tenant, topic)).fetchone()
        if not is_open:
            connection.execute(sql.OPEN, (tenant, topic))
    if waiting > rules.max_waiting:
        expire(connection, topic, now=now)
        connection.execute(sql.RECOUNT, (topic,))
        (waiting, _) = connection.execute(sql.LOOK, ("", topic)).fetchone()
        if waiting > rules.max_waiting:
            raise topic_full(topic, waiting - count, rules)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    before = connection.total_changes
    insert_rows(connection, sql.PUBLISH, rows, sql.PUBLISH_ONCE)
    return connection.total_changes - before


def join(connection: sqlite3.Connection, topic: str, group: str, *, now: float, rules: BusRules) -> None:
    """Makes the group one of the topic's; a new one begins with what no group has settled yet."""
    if connection.execute(sql.JOIN, (topic, group)).rowcount == 1:
        count = connection.execute(sql.CATCH_UP, (group, rules.aging_s, now, topic)).rowcount
        connection.execute(sql.START, (count, topic, group))
        connection.execute(sql.NOT_FIRST, (topic,))
        for (tenant,) in connection.execute(sql.TENANTS, (topic,)).fetchall():
            connection.execute(sql.OPEN, (tenant, topic))


def has_open(connection: sqlite3.Connection, topics: Sequence[str], group: str) -> bool:
    """Whether there may be something to claim."""
    if not topics:
        return False
    values = [value for topic in topics for value in (group, topic)]
    return bool(connection.execute(sql.has_open(len(topics)), values).fetchone()[0])


def claim(
    connection: sqlite3.Connection,
    topics: Sequence[str],
    group: str,
    limit: int,
    *,
    now: float,
    token: Callable[[], str],
    rules: BusRules,
) -> list[tuple[Message, str]]:
    """Claims up to ``limit`` messages: the tenant goes next that is least far; returns them with their tokens."""
    claimed: list[tuple[Message, str]] = []
    lanes = [value for topic in topics for value in (group, topic)]
    while len(claimed) < limit:
        order = sorted(connection.execute(sql.open_lanes(len(topics)), lanes))
        if not order:
            break
        at, tenant = order[0]
        present, has_others = connection.execute(sql.PRESENT, (group, tenant)).fetchone()
        turn, step = max(at, present), rules.turn(tenant)
        rival = next((max(other_at, present) for other_at, other in order if other != tenant), math.inf)
        # Until a rival is as far or less far, nobody else would be asked.
        many = min(limit - len(claimed), 1 + math.floor(min((rival - turn) / step, float(limit))))
        rows = _first(connection, topics, group, tenant, many)
        before = len(claimed)
        for row in rows:
            if row[8] is not None and row[8] <= now:
                drop(connection, row[1], row[0], group)
                continue
            name = token()
            connection.execute(sql.CLAIM, (now + rules.hide_s, name, row[0], group))
            claimed.append((to_message(row, deliveries=row[9]), name))
        count = len(claimed) - before
        if count and (has_others or at - present < 0.9 * step):  # whoever is alone stays one step ahead
            connection.execute(sql.ADVANCE, (turn + count * step, group, tenant))
            connection.execute(sql.MOVE, (group, turn + (count - 1) * step))
        if len(rows) < many:
            connection.executemany(sql.CLOSE, [(group, tenant, topic) for topic in topics])
    return claimed


def _first(connection: sqlite3.Connection, topics: Sequence[str], group: str, tenant: str, many: int) -> list[Row]:
    """What the tenant can claim, the first first."""
    values = [value for topic in topics for value in (topic, group, tenant, many)]
    rows = connection.execute(sql.first_of(len(topics)), values).fetchall()
    if len(topics) > 1:
        rows.sort(key=lambda row: (row[10], row[0]))
    return rows[:many]


def drop(connection: sqlite3.Connection, topic: str, seq: int, group: str) -> None:
    """The group is done with the message."""
    if connection.execute(sql.DROP, (seq, group)).rowcount:
        settled(connection, topic, seq, group)


def settled(connection: sqlite3.Connection, topic: str, seq: int, group: str) -> None:
    """A group has settled the message: its id is free, and what nobody reads or waits for is gone."""
    connection.execute(sql.TAKE_ONE, (topic, group))
    if connection.execute(sql.DONE, (seq,)).rowcount == 0:
        connection.execute(sql.SETTLED, (seq,))


def bury(connection: sqlite3.Connection, topic: str, seq: int, group: str, *, reason: str, now: float) -> None:
    """Makes the message a dead letter of the group."""
    connection.execute(sql.BURY, (reason, now, seq, group))
    drop(connection, topic, seq, group)


def revive(connection: sqlite3.Connection, letter: Letter, *, now: float, rules: BusRules) -> bool:
    """Whether the dead letter was there; it waits for its group again."""
    key = (letter.message.topic, letter.message.seq, letter.group)
    if connection.execute(sql.REVIVE, (now, rules.aging_s, *key)).rowcount == 0:
        return False
    connection.execute(sql.JOIN, (letter.message.topic, letter.group))
    connection.execute(sql.NOT_FIRST, (letter.message.topic,))
    connection.execute(sql.ADD_ONE, (letter.message.topic, letter.group))
    connection.execute(sql.UNEARTH, key)
    connection.execute(sql.UNSETTLE, (letter.message.seq,))
    connection.execute(sql.OPEN, (letter.message.tenant, letter.message.topic))
    connection.execute(sql.FORGET, key)
    return True


def show(connection: sqlite3.Connection, topics: Iterable[str], *, now: float, rules: BusRules) -> list[str]:
    """Shows again what was hidden long enough, or buries it; returns the topics on which something can be claimed."""
    shown = []
    for topic in topics:
        for seq, group, lapses in connection.execute(sql.LAPSED, (topic, now, rules.max_deliveries)).fetchall():
            bury(connection, topic, seq, group, reason=lapsed(lapses), now=now)
        connection.execute(sql.OPEN_DUE, (topic, now))
        if connection.execute(sql.SHOW, (topic, now)).rowcount:
            shown.append(topic)
    return shown


def next_due(connection: sqlite3.Connection, topics: Iterable[str]) -> float:
    """When the next hidden message comes back; ``inf`` for never."""
    rows = (connection.execute(sql.NEXT, (topic,)).fetchone() for topic in topics)
    return min((row[0] for row in rows if row is not None), default=math.inf)


def expire(connection: sqlite3.Connection, topic: str, *, now: float) -> None:
    """Settles for every group what has expired; what is claimed goes when its claim ends."""
    for seq, group in connection.execute(sql.EXPIRED, (topic, now)).fetchall():
        drop(connection, topic, seq, group)
    connection.execute(sql.EXPIRE, (topic, now))


def depth(connection: sqlite3.Connection, topic: str, *, now: float) -> int:
    """How many messages wait unclaimed."""
    (groups,) = connection.execute(sql.GROUPS, (topic,)).fetchone()
    statement = {0: sql.UNCLAIMED, 1: sql.DEPTH_OF_ONE}.get(groups, sql.DEPTH_OF_MANY)
    return int(connection.execute(statement, (topic, now)).fetchone()[0])


def trim(connection: sqlite3.Connection, topic: str, after: int, *, now: float, rules: BusRules) -> int:
    """Drops what may go of the topic, and of all topics a part; returns where the next part begins."""
    connection.execute(sql.TRIM, (topic, rules.keep))
    connection.execute(sql.FORGET_MANY, (topic, rules.keep))
    last, count = connection.execute(sql.SWEPT, (after, _SWEPT)).fetchone()
    if count:
        connection.execute(sql.SWEEP, (after, last, now - rules.keep_s, now))
    if count == _SWEPT:
        return int(last)
    connection.execute(sql.FORGET_OLD, (now - rules.keep_s,))
    connection.execute(sql.LEAVE)
    return 0
