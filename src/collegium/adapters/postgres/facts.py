"""What a PostgreSQL server says of itself, for whoever checks an installation."""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from collegium.adapters.postgres.connection import connect, place_of, store_error
from collegium.ports import Clock

_ASK = """
SELECT current_setting('server_version'),
       extract(epoch FROM clock_timestamp())::float8,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       pg_is_in_recovery()
"""


class PostgresFacts(NamedTuple):
    """A server, as it is now.

    Attributes:
        place: Where it is, without a password.
        ahead_s: How far its clock is ahead of this machine's, to half the time of a question and its answer.
        connections: How many clients it takes.
        used: How many there are.
        is_replica: Whether it only follows another one.
    """

    place: str
    version: str
    ahead_s: float
    connections: int
    used: int
    is_replica: bool


async def look(url: str, clock: Clock) -> PostgresFacts:
    """The facts of the server at ``url``. Raises ``UsageError``, ``StoreError``."""
    place = place_of(url)
    connection = await connect(url)
    try:
        await connection.execute("SELECT 1")  # what the first statement takes longer is no skew
        before_s = clock.now().timestamp()
        row = await (await connection.execute(_ASK)).fetchone()
        middle_s = (before_s + clock.now().timestamp()) / 2
    except psycopg.Error as error:
        raise store_error(error, place) from error
    finally:
        await connection.close()
    version, now_s, connections, used, is_replica = row or ("", middle_s, 0, 0, False)
    return PostgresFacts(
        place=place,
        version=str(version).partition(" ")[0],
        ahead_s=float(now_s) - middle_s,
        connections=int(connections),
        used=int(used),
        is_replica=bool(is_replica),
    )
