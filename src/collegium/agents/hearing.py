"""What a user adds to a run on the way, and what of it an agent was told already."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from collegium.domain.chat import ChatMessage

_ADDS = "The user adds: "


def heard_in(said: Sequence[str], texts: Iterable[str]) -> tuple[str, ...]:
    """What of ``said`` is in ``texts``, as lines of their own; said twice, it is told when it is there twice."""
    heard = tuple(texts)
    left = {x: sum(_count(x, text) for text in heard) for x in said}
    found = []
    for x in said:
        if left[x] > 0:
            left[x] -= 1
            found.append(x)
    return tuple(found)


def untold(said: Sequence[str], texts: Iterable[str]) -> tuple[ChatMessage, ...]:
    """Messages that tell the rest of ``said``."""
    left = list(said)
    for x in heard_in(said, texts):
        left.remove(x)
    return tuple(ChatMessage(role="user", text=f"{_ADDS}{x}") for x in left)


def _count(said: str, text: str) -> int:
    """How often ``said`` stands in ``text`` from the beginning of a line to the end of one."""
    lines = "\n" + text.replace(f"\n{_ADDS}", "\n").removeprefix(_ADDS).replace("\n", "\n\n") + "\n"
    return lines.count("\n" + said.replace("\n", "\n\n") + "\n")
