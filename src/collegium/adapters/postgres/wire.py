"""Several prepared statements in one message to the server, and their answers in one message back.

The driver's own pipeline sends each statement by itself and adapts every value by looking at it. A writer that commits
a thousand times a second knows its few statements and their types: they are prepared with the connection, and whole
columns are sent as arrays.

Source: PostgreSQL documentation, "Pipeline Mode" of libpq; array format: ``array_send`` of the server.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from collegium.adapters.postgres.connection import Connection

_OK: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
_HEADER: Final = struct.Struct("!iiIii").pack
_LENGTH: Final = struct.Struct("!i").pack
_INT8: Final = struct.Struct("!q").pack
_INT4: Final = struct.Struct("!i").pack
_NULL: Final = _LENGTH(-1)
_BINARY: Final = 1


class Kind(NamedTuple):
    """A type of values: the server's number for it and for its array, and how one is written and read."""

    oid: int
    array: int
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


TEXT: Final = Kind(25, 1009, str.encode, bytes.decode)
BYTES: Final = Kind(17, 1001, bytes, bytes)
INT8: Final = Kind(20, 1016, _INT8, lambda b: int.from_bytes(b, "big", signed=True))
INT4: Final = Kind(23, 1007, _INT4, lambda b: int.from_bytes(b, "big", signed=True))
BOOL: Final = Kind(16, 1000, lambda b: b"\1" if b else b"\0", lambda b: b == b"\1")


class Statement(NamedTuple):
    """A statement that is prepared with its connection.

    Attributes:
        name: What the server calls it.
        sql: With ``$1``, ``$2`` ... for the values.
        takes: Kinds of the values, each an array of its kind: a column.
        gives: Kinds of the columns of the answer.
    """

    name: str
    sql: str
    takes: tuple[Kind, ...] = ()
    gives: tuple[Kind, ...] = ()


BEGIN: Final = Statement("begin", "BEGIN")
COMMIT: Final = Statement("commit", "COMMIT")
ROLLBACK: Final = Statement("rollback", "ROLLBACK")


class Batch:
    """Statements to be sent together. Where one of them fails, those behind it are not executed."""

    def __init__(self) -> None:
        self._sends: list[tuple[Statement, list[bytes]]] = []
        self._answers: dict[int, PGresult] = {}

    def add(self, statement: Statement, rows: Sequence[Sequence[object]] = ()) -> int:
        """Adds a statement about ``rows``, sent column by column; returns where its answer will be."""
        columns = zip(*rows, strict=True) if rows else [()] * len(statement.takes)
        values = [_array(kind, column) for kind, column in zip(statement.takes, columns, strict=True)]
        self._sends.append((statement, values))
        return len(self._sends) - 1

    def rows(self, place: int) -> Iterator[tuple[Any, ...]]:
        """The rows of an answer."""
        gives, answer = self._sends[place][0].gives, self._answers[place]
        for n in range(answer.ntuples):
            values = (answer.get_value(n, column) for column in range(len(gives)))
            yield tuple(None if v is None else kind.read(v) for kind, v in zip(gives, values, strict=True))

    def said(self, place: int) -> str:
        """What the server says that it did, ``COMMIT`` for example."""
        return (self._answers[place].command_status or b"").decode()

    async def exchange(self, connection: Connection) -> None:
        """Sends everything and waits for all answers. Raises ``psycopg.Error``, the first there was."""
        pgconn = connection.pgconn
        pgconn.enter_pipeline_mode()
        for statement, values in self._sends:
            pgconn.send_query_prepared(statement.name.encode(), values, [_BINARY] * len(values), _BINARY)
        await self._answered(connection)

    async def prepare(self, connection: Connection) -> None:
        """Prepares the statements instead of executing them."""
        pgconn = connection.pgconn
        pgconn.enter_pipeline_mode()
        for statement, _ in self._sends:
            oids = [kind.array for kind in statement.takes]
            pgconn.send_prepare(statement.name.encode(), statement.sql.encode(), oids)
        await self._answered(connection)

    async def _answered(self, connection: Connection) -> None:
        connection.pgconn.pipeline_sync()
        answers = await connection.wait(_receive(connection.pgconn))
        for place, answer in enumerate(answers):
            if answer.status not in _OK:
                raise errors.error_from_result(answer, connection.info.encoding)
            self._answers[place] = answer


async def prepare(connection: Connection, statements: Iterable[Statement]) -> None:
    """Prepares ``statements`` on ``connection``. Raises ``psycopg.Error``."""
    batch = Batch()
    for statement in statements:
        batch.add(statement)
    await batch.prepare(connection)


def _receive(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """All answers up to the end of the batch, in order; those that came before the connection was lost."""
    yield from generators.send(pgconn)
    answers: list[PGresult] = []
    while pgconn.status != ConnStatus.BAD:
        answer = yield from generators.fetch(pgconn)
        if answer is None:
            continue  # stands between the answers
        if answer.status == ExecStatus.PIPELINE_SYNC:
            pgconn.exit_pipeline_mode()
            return answers
        answers.append(answer)
    if all(answer.status in _OK for answer in answers):
        raise psycopg.OperationalError("the connection was lost")
    return answers


def _array(kind: Kind, column: Sequence[Any]) -> bytes:
    """The binary form of an array of one dimension."""
    if not column:
        return _HEADER(0, 0, kind.oid, 0, 0)[:12]
    write = kind.write
    parts = [_HEADER(1, int(None in column), kind.oid, len(column), 1)]
    for value in column:
        if value is None:
            parts.append(_NULL)
        else:
            data = write(value)
            parts += (_LENGTH(len(data)), data)
    return b"".join(parts)
