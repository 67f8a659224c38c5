"""How messages and dead letters are written in Redis: a line that scripts read, and a line with the body."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

import msgspec

from collegium.adapters.bus_rules import BusRules, lapsed, rank_of
from collegium.adapters.rows import from_us, to_us
from collegium.domain.message import Letter, Message

_S: Final = 1_000_000
_REPLY_S: Final = 300
"""Answers are waited for, or forgotten."""


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The first line; 0 is never. Times in microseconds since 1970."""

    id: str
    tenant: str
    rank: int
    expires: int
    due: int
    priority: int
    at: int
    reply_to: str | None


class _LetterHeader(msgspec.Struct, frozen=True, array_like=True):
    group: str
    reason: str
    at: str
    deliveries: int


_encode: Final = msgspec.json.Encoder().encode
_decode_header: Final = msgspec.json.Decoder(Header).decode
_decode_letter: Final = msgspec.json.Decoder(_LetterHeader).decode
_decode_body: Final = msgspec.json.Decoder().decode


def us_of(seconds: float) -> int:
    """Microseconds."""
    return round(seconds * _S)


def to_arguments(
    message: Message, body: bytes, *, now_us: int, due_us: int, rules: BusRules
) -> tuple[str | bytes, ...]:
    """Id, tenant, rank, expiry and value, as ``bus_publish.lua`` takes them."""
    header = _header(message, now_us=now_us, due_us=due_us, rules=rules)
    value = b"%b\n%b" % (_encode(header), body)
    return message.id, message.tenant, str(header.rank), str(header.expires), value


def revived_line(letter: Letter, *, now_us: int, rules: BusRules) -> bytes:
    """The first line of the value of a dead letter that begins anew; it was published when it was."""
    header = _header(letter.message, now_us=now_us, due_us=0, rules=rules)
    at = now_us if letter.message.at is None else to_us(letter.message.at)
    return _encode(msgspec.structs.replace(header, at=at))


def _header(message: Message, *, now_us: int, due_us: int, rules: BusRules) -> Header:
    # ``published + priority * aging_s`` of ``rank_of``, from when the message can be claimed.
    rank = max(now_us, due_us) + us_of(rank_of(message, 0.0, rules))
    return Header(
        id=message.id,
        tenant=message.tenant,
        rank=rank,
        expires=0 if message.expires_at is None else to_us(message.expires_at),
        due=due_us,
        priority=message.priority,
        at=now_us,
        reply_to=message.reply_to,
    )


def to_message(topic: str, seq: int, value: bytes, *, deliveries: int = 0) -> Message:
    """The message of a value."""
    line, _, body = value.partition(b"\n")
    header = _decode_header(line)
    return Message(
        id=header.id,
        topic=topic,
        tenant=header.tenant,
        body=_decode_body(body),
        priority=header.priority,
        reply_to=header.reply_to,
        expires_at=from_us(header.expires) if header.expires else None,
        seq=seq,
        at=from_us(header.at),
        deliveries=deliveries,
    )


def to_letter(topic: str, seq: int, value: bytes) -> Letter:
    """The dead letter of a value of ``bus_letters.lua``."""
    line, _, rest = value.partition(b"\n")
    header = _decode_letter(line)
    message = to_message(topic, seq, rest, deliveries=header.deliveries)
    return Letter(message=message, group=header.group, reason=header.reason, at=from_us(int(header.at)))


def member_of(seq: int) -> str:
    """The name of a message in the sets."""
    return f"{seq:016d}"


def stream_id(reply: bytes) -> int:
    """The number of a message in a stream."""
    return int(reply.partition(b"-")[0])


def since_us(since: datetime | None) -> int:
    """The least number that a message published then can have: numbers are times, or follow one."""
    return 0 if since is None else to_us(since)


def rules_json(rules: BusRules) -> bytes:
    """The rules as scripts read them."""
    shown: dict[str, Any] = {
        "hide_us": us_of(rules.hide_s),
        "keep": rules.keep,
        "keep_s": max(1, round(rules.keep_s)),
        "keep_us": us_of(rules.keep_s),
        "reply_s": _REPLY_S,
        "max_deliveries": rules.max_deliveries,
        "max_waiting": rules.max_waiting,
        "lapsed": lapsed(rules.max_deliveries),
        "steps": {tenant: rules.turn(tenant) for tenant in rules.weights},
    }
    return json.dumps(shown).encode()
