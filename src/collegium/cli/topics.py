"""``collegium topics``: messages on the bus, and those that nobody could deal with."""

from __future__ import annotations

import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.domain.errors import UsageError
from collegium.domain.message import PRIORITIES, Message, check_topic, is_work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collegium.domain.chat import Json
    from collegium.domain.message import Letter
    from collegium.ports import Bus

topics = LazyGroup(
    "topics",
    help="""Messages between agents, processes and programs: look, publish, give dead letters back.

    Topics of your own have names like orders.new. `tasks.*` holds work: it comes from the runs and is only claimed.""",
    lazy={
        "ls": Lazy("collegium.cli.topics:ls", "List topics: what waits, what is dead."),
        "read": Lazy("collegium.cli.topics:read", "Show the messages of a topic, from any place on."),
        "publish": Lazy("collegium.cli.topics:publish", "Publish a message."),
        "dead": Lazy("collegium.cli.topics:dead", "List the dead letters of a topic, and why they are."),
        "requeue": Lazy("collegium.cli.topics:requeue", "Give dead letters back to be dealt with."),
    },
)
_AFTER = click.option("--after", metavar="SEQ", type=click.IntRange(min=0), default=0, help="Only messages behind it.")
_LIMIT = click.option("--limit", metavar="N", type=click.IntRange(1, 10_000), default=100, help="At most so many.")
_MANY = 1_000


@command("ls")
@click.option("--after", metavar="TOPIC", default="", help="Only topics behind this one.")
@_LIMIT
@pass_session
def ls(session: Session, after: str, limit: int) -> int:
    """List topics by name: how many messages wait for somebody, and how many are dead letters."""
    return session.execute(_list(session, after, limit))


@command("read")
@click.argument("topic")
@_AFTER
@click.option("--since", metavar="TIME", help="Only messages from then on, as 2026-11-22T12:00 (UTC) or with a zone.")
@_LIMIT
@click.option("--follow", "is_following", is_flag=True, help="Go on with what comes; --json then prints lines.")
@pass_session
def read(session: Session, topic: str, after: int, since: str | None, limit: int, *, is_following: bool) -> int:
    """Show the messages of TOPIC in the order they were published, whether anybody has dealt with them or not."""
    check_topic(topic)
    if is_work(topic):
        raise UsageError(f"{topic} is only claimed from: `collegium runs ls` shows the runs that its work is of")
    if is_following:
        return session.execute(_follow(session, topic, after, _moment(since)))
    return session.execute(_read(session, topic, after, _moment(since), limit))


@command("publish")
@click.argument("topic")
@click.argument("body", metavar="JSON")
@click.option(
    "--priority", type=click.Choice(tuple(PRIORITIES)), metavar="LEVEL", default="normal", help="As with run."
)
@click.option("--delay-s", metavar="S", type=click.FloatRange(min=0), default=0.0, help="Nobody gets it before.")
@click.option("--id", "name", metavar="ID", help="As long as a message of that id waits, it is published once.")
@pass_session
def publish(session: Session, topic: str, body: str, priority: str, delay_s: float, name: str | None) -> int:
    """Publish a JSON object on TOPIC; `-` reads it from standard input.

    \b
      collegium topics publish orders.new '{"order": 17}' --priority high --id order-17
    """  # noqa: D301  \b keeps click from wrapping what follows
    check_topic(topic)
    if is_work(topic):
        raise UsageError(f"{topic} takes the tasks of runs alone: `collegium run` makes some")
    message = Message(
        id=name or _new_id(), topic=topic, tenant="default", body=_json(body), priority=PRIORITIES[priority]
    )
    return session.execute(_publish(session, message, delay_s))


@command("dead")
@click.argument("topic")
@_AFTER
@_LIMIT
@pass_session
def dead(session: Session, topic: str, after: int, limit: int) -> int:
    """List messages of TOPIC that a group could not deal with, and why. They are kept for some days."""
    check_topic(topic)
    return session.execute(_dead(session, topic, after, limit))


@command("requeue")
@click.argument("topic")
@click.argument("seqs", metavar="[SEQ]...", type=click.IntRange(min=1), nargs=-1)
@pass_session
def requeue(session: Session, topic: str, seqs: tuple[int, ...]) -> int:
    """Give the dead letters SEQ of TOPIC back to their groups, as if they were new; without SEQ, all of them."""
    check_topic(topic)
    return session.execute(_requeue(session, topic, seqs))


async def _list(session: Session, after: str, limit: int) -> int:
    async with _bus(session) as bus:
        names = await bus.topics(after, limit + 1)
        items = [
            {"topic": name, "waiting": await bus.depth([name]), "dead": len(await bus.letters(name, limit=_MANY))}
            for name in names[:limit]
        ]
    following = names[limit - 1] if len(names) > limit else None
    if session.is_json:
        session.emit({"items": items, "next": following})
        return 0
    if not items:
        print("There is no topic.")
        return 0
    from collegium.cli.columns import print_columns

    rows = [(str(i["waiting"]), (str(i["dead"]), "red" if i["dead"] else "dim"), str(i["topic"])) for i in items]
    print_columns(session.out, ("waiting", "dead", "topic"), rows, right=("waiting", "dead"))
    if following is not None:
        session.tell(f"more: collegium topics ls --after {following}")
    return 0


async def _read(session: Session, topic: str, after: int, since: datetime | None, limit: int) -> int:
    async with _bus(session) as bus:
        found = await bus.read(topic, after, limit + 1, since=since)
    messages, following = found[:limit], found[limit - 1].seq if len(found) > limit else None
    if session.is_json:
        session.emit({"topic": topic, "items": [_document(m) for m in messages], "next": following})
        return 0
    for message in messages:
        _print(session, message)
    if not messages:
        session.tell(f"{topic} has no such message")
    elif following is not None:
        session.tell(f"more: collegium topics read {topic} --after {following}")
    return 0


async def _follow(session: Session, topic: str, after: int, since: datetime | None) -> int:
    import msgspec

    from collegium.bus.feed import follow

    async with _bus(session) as bus:
        async for message in follow(bus, topic, after=after, since=since):
            if session.is_json:
                print(msgspec.json.encode(_document(message)).decode(), flush=True)
            else:
                _print(session, message)
    return 0


async def _publish(session: Session, message: Message, delay_s: float) -> int:
    async with _bus(session) as bus:
        is_new = await bus.publish(message, delay_s=delay_s) > 0
    if session.is_json:
        session.emit({"topic": message.topic, "id": message.id, "is_new": is_new})
    else:
        print(message.id if is_new else f"{message.id} waits already; nothing was published")
    return 0


async def _dead(session: Session, topic: str, after: int, limit: int) -> int:
    async with _bus(session) as bus:
        found = await bus.letters(topic, after, limit + 1)
    letters, following = found[:limit], found[limit - 1].message.seq if len(found) > limit else None
    if session.is_json:
        items = [{**_document(x.message), "group": x.group, "reason": x.reason, "died_at": x.at} for x in letters]
        session.emit({"topic": topic, "items": items, "next": following})
        return 0
    if not letters:
        print(f"{topic} has no dead letter.")
        return 0
    for letter in letters:
        _print_letter(session, letter)
    more = "" if following is None else f"; more: collegium topics dead {topic} --after {following}"
    session.tell(f"`collegium topics requeue {topic} [SEQ]...` gives them back{more}")
    return 0


async def _requeue(session: Session, topic: str, seqs: tuple[int, ...]) -> int:
    wanted, back = set(seqs), set[int]()
    after = 0
    async with _bus(session) as bus:
        while letters := await bus.letters(topic, after, _MANY):
            after = letters[-1].message.seq
            for letter in letters:
                if (not wanted or letter.message.seq in wanted) and await bus.revive(letter):
                    back.add(letter.message.seq)
    if missing := sorted(wanted - back):
        given = f"; given back: {', '.join(map(str, sorted(back)))}" if back else ""
        shown = ", ".join(map(str, missing))
        raise UsageError(f"{topic} has no dead letter {shown}{given}: `collegium topics dead {topic}` lists them")
    if session.is_json:
        session.emit({"topic": topic, "requeued": sorted(back)})
    else:
        print(f"{len(back)} given back")
    return 0


@asynccontextmanager
async def _bus(session: Session) -> AsyncIterator[Bus]:
    """The bus. Raises ``UsageError`` where this process has one of its own, which nobody else could see."""
    if session.settings.redis is None and not session.settings.store.startswith("sqlite:"):
        raise UsageError("topics of a PostgreSQL store are in Redis: set `redis`, as in redis://HOST:6379/0")
    async with session.open() as app:
        yield app.stores.bus


def _print(session: Session, message: Message) -> None:
    from rich.text import Text

    at = "" if message.at is None else f"{message.at:%Y-%m-%d %H:%M:%S}"
    line = Text.assemble((str(message.seq), "cyan"), "  ", (at, "dim"), "  ", _shown(message))
    session.out.print(line, soft_wrap=True)


def _print_letter(session: Session, letter: Letter) -> None:
    from collegium.cli.text import one_line

    _print(session, letter.message)
    times = "once" if letter.message.deliveries == 1 else f"{letter.message.deliveries} times"
    why = f"    {letter.group}, delivered {times}: {one_line(letter.reason)}"
    session.out.print(why, style="red", soft_wrap=True)


def _shown(message: Message) -> str:
    import msgspec

    from collegium.cli.text import one_line

    return one_line(msgspec.json.encode(message.body).decode())


def _document(message: Message) -> dict[str, Any]:
    names = ("seq", "id", "topic", "tenant", "at", "priority", "reply_to", "expires_at", "deliveries", "body")
    return {name: getattr(message, name) for name in names}


def _json(text: str) -> Json:
    import msgspec

    try:
        return msgspec.json.decode(sys.stdin.buffer.read() if text == "-" else text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise UsageError(f'{text[:80]!r} is no JSON object ({error}): write one as {{"so": 1}}') from error


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--since {text!r} is no time: write it as 2026-11-22T12:00 or 2026-11-22T12:00+01:00"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _new_id() -> str:
    from collegium.domain.ids import Ids

    return Ids(lambda: time.time_ns() // 1_000_000).new("msg")
