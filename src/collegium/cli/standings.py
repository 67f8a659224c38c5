"""How agents stand and do, over all workers: what ``collegium agents`` shows beside their declarations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from collegium.cli.text import ago, one_line, seconds

if TYPE_CHECKING:
    from datetime import datetime

    from collegium.agents.roster import Roster
    from collegium.app import Collegium
    from collegium.domain.worker import AgentCard
    from collegium.runtime.lifecycle import Change, Standing

STYLES = {"active": "green", "draining": "yellow", "quarantined": "red", "retired": "dim"}
SHORT_CHARS = 8


class Seen(NamedTuple):
    """What is said of an agent, and how it does over all workers."""

    condition: str
    standing: Standing | None
    card: AgentCard | None


async def look(app: Collegium, roster: Roster) -> dict[str, Seen]:
    """All agents of ``roster`` and those that are kept for the runs of earlier ones, by name."""
    from collegium.runtime.outlook import fleet_cards

    standings = {s.agent: s for s in await app.placement.lifecycle.all()}
    cards = fleet_cards(await app.fleet.workers())
    names = [a.name for a in roster]
    found = {}
    for name in (*names, *sorted((standings.keys() | cards.keys()) - set(names))):
        standing, card = standings.get(name), cards.get(name)
        said = "active" if standing is None else standing.condition
        # In the roster of some worker, though not in the one of this machine's settings: it is not gone.
        is_known = name in names or (card is not None and card.condition != "retired")
        found[name] = Seen(said if is_known else "retired", standing, card)
    return found


def document(seen: Seen) -> dict[str, Any]:
    """The same for programs."""
    standing, card = seen.standing, seen.card
    return {
        "condition": seen.condition,
        "is_failing": standing is not None and standing.is_marked,
        "until": None if standing is None else standing.until,
        "changes": () if standing is None else standing.changes,
        "health": None
        if card is None
        else {
            "attempts": card.attempts,
            "failures": card.failures,
            "error_rate": round(card.failures / card.attempts, 4) if card.attempts else 0.0,
            "median_s": card.seconds,
            "p95_s": card.p95_s,
            "load": card.load,
            "max": card.max_concurrent,
        },
    }


def condition(seen: Seen) -> str:
    """The condition in a word or two."""
    failing = seen.standing is not None and seen.standing.is_marked and seen.condition == "active"
    return "failing" if failing else seen.condition


def style(seen: Seen) -> str:
    """The colour of the condition."""
    return "red" if condition(seen) == "failing" else STYLES.get(seen.condition, "")


def health(card: AgentCard | None) -> str:
    """How its attempts of the last minutes went."""
    if card is None or not card.attempts:
        return ""
    took = f", {seconds(card.seconds)}" if card.seconds else ""
    return f"{card.attempts - card.failures} of {card.attempts} well{took}"


def load(card: AgentCard | None) -> str:
    """Tasks over all workers."""
    return "" if card is None else f"{card.load}/{card.max_concurrent}"


def history(standing: Standing, now: datetime) -> list[str]:
    """What was said of an agent, the newest first: when, what, by whom and why."""
    return [_told(c, now) for c in reversed(standing.changes)]


def _told(change: Change, now: datetime) -> str:
    because = f": {change.reason}" if change.reason else ""
    return one_line(f"{ago(change.at, now):>8}  {change.condition} by {change.principal}{because}")
