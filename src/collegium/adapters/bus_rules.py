"""What the embedded buses agree on, whatever they keep their messages in."""

from __future__ import annotations

from typing import Final, NamedTuple

from collegium.domain.message import Message


class BusRules(NamedTuple):
    """How long a bus hides, ages and keeps messages.

    Attributes:
        hide_s: How long a claimed message stays hidden before it is delivered again.
        aging_s: A message gains one step of priority for every ``aging_s`` that it has waited.
        keep: How many messages of a topic are kept for readers. Of a topic that was ever claimed from, older ones go
            once they are settled; of any other topic they go.
        keep_s: Age at which messages go that could go by their number.
        poll_s: How often waiters look for messages of other processes where those cannot wake them.
        look_s: How often they look all the same where they can.
    """

    hide_s: float = 60.0
    aging_s: float = 60.0
    keep: int = 10_000
    keep_s: float = 7 * 86_400.0
    poll_s: float = 0.05
    look_s: float = 1.0


DEFAULT_RULES: Final = BusRules()


def rank_of(message: Message, published_s: float, rules: BusRules) -> float:
    """The place of a message among those that wait: the smallest goes first.

    ``priority - waited / aging_s`` compares any two messages at any moment just as the constant
    ``published + priority * aging_s`` does, which an index can hold.
    """
    return published_s + message.priority * rules.aging_s
