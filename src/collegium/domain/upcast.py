"""Old bodies made new: what was stored by an earlier version, as this one would have written it.

Stored bytes never change and the chain is over them; only what is decoded goes through here. A type's versions are
counted from 1; every step from one to the next has its entry below, and ``tests/unit/domain/journals`` holds stored
events of every released version that has to load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from collegium.domain.chat import Json

Step = Callable[[Json], Json]


def _extended(body: Json) -> Json:
    """The next version only has more fields, and their defaults mean what leaving them out meant."""
    return body


UPCASTERS: Final[Mapping[str, tuple[Step, ...]]] = {
    # 2: limits of input, output, tool calls and parallel tasks; plan review. 3: rights of whoever asks; project.
    "run.submitted": (_extended, _extended),
    # 2: timeouts of tasks.
    "run.planned": (_extended,),
    "run.replanned": (_extended,),
    "task.settled": (_extended,),
    "task.ready": (_extended,),
    "limit.reserved": (_extended,),
    # 2: what a fork changes, and its effects. 3: rights of whoever forks.
    "run.forked": (_extended, _extended),
    # 2: the candidates and their figures.
    "task.routed": (_extended,),
    # 2: conversations that begin again with another agent or model.
    "task.started": (_extended,),
    # 2: the reasons ``stopped`` and ``pinned``.
    "task.parked": (_extended,),
    # 2: the call itself, four eyes, answers by default, edited plans.
    "approval.requested": (_extended,),
    "approval.answered": (_extended,),
    # 2: who sent it, in which call.
    "message.sent": (_extended,),
}
"""By type: the step from version 1 to 2, from 2 to 3, and so on."""


def newest_version(type_: str) -> int:
    """The version that this code writes."""
    return len(UPCASTERS.get(type_, ())) + 1


def upcast(type_: str, v: int, data: bytes) -> bytes:
    """The bytes of a body of version ``v`` as the newest version has them.

    Raises msgspec.MsgspecError for what is no JSON object.
    """
    body = msgspec.json.decode(data, type=Json)
    for step in UPCASTERS.get(type_, ())[v - 1 :]:
        body = step(body)
    return msgspec.json.encode(body)
