"""What came of trials: one line of JSON for each, one line of the table for each kind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

WRONGS = ("lost", "repeated", "duplicated", "gap", "stale", "chain", "limit")
"""What may never happen. ``gap``: a write with neither an end nor an unknown outcome. ``stale``: an append of a closed
attempt. ``chain``: a broken chain or a damaged file."""


@dataclass
class Outcome:
    """One trial. ``wrongs`` has a sentence for each violation, by its kind."""

    kind: str
    seed: int
    kills: int = 0
    pauses: int = 0
    cuts: int = 0
    acknowledged: int = 0
    runs: int = 0
    writes: int = 0
    unknown: int = 0
    quarantined: int = 0
    lapses: int = 0
    asked_again: int = 0
    least_in_flight: int = 0
    seconds: float = 0.0
    recovery_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    wrongs: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def note(self, what: str, number: float = 1) -> None:
        """Counts something that is worth knowing and no violation."""
        self.notes[what] = self.notes.get(what, 0) + number

    def wrong(self, kind: str, *sentences: str) -> None:
        """Adds violations."""
        if sentences:
            self.wrongs.setdefault(kind, []).extend(sentences)

    def add(self, part: Outcome) -> None:
        """Adds what a part of this trial found."""
        for name in ("runs", "cuts", "acknowledged", "writes", "unknown", "quarantined", "lapses", "asked_again"):
            setattr(self, name, getattr(self, name) + getattr(part, name))
        for kind, sentences in part.wrongs.items():
            self.wrong(kind, *(f"{part.kind}: {s}" for s in sentences))
        for what, number in part.notes.items():
            self.note(what, number)

    @property
    def is_right(self) -> bool:
        """Whether nothing was violated."""
        return not self.wrongs

    def to_line(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self))


def load(path: Path) -> list[Outcome]:
    """The finished trials of an earlier run; a last line that was cut off is left out."""
    outcomes = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            outcomes.append(Outcome(**json.loads(line)))
        except json.JSONDecodeError:
            continue
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per kind of trial, and one for all."""
    head = (
        "trial",
        "trials",
        "kills",
        "pauses",
        "cuts",
        "runs",
        "writes",
        *WRONGS,
        "unknown",
        "quarant.",
        "again",
        "in flight",
        "p50 s",
        "p95 s",
    )
    rows: list[tuple[str, ...]] = [head]
    kinds = list(dict.fromkeys(o.kind for o in outcomes))
    rows += [_row(kind, [o for o in outcomes if o.kind == kind]) for kind in kinds]
    if len(kinds) > 1:
        rows.append(_row("all", outcomes))
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    ]
    notes: dict[str, float] = {}
    for what, number in ((w, n) for o in outcomes for w, n in o.notes.items()):
        notes[what] = notes.get(what, 0) + number
    if acknowledged := sum(o.acknowledged for o in outcomes):
        lines.append(f"acknowledged before a power cut, over all cuts: {acknowledged:,}")
    alone = sorted(s for o in outcomes for s in o.alone_s)
    if alone:
        lines.append(f"tasks tried alone: {len(alone)}, p50 {_quantile(alone, 0.5)} s, p95 {_quantile(alone, 0.95)} s")
    return "\n".join([*lines, *(f"{what}: {number:g}" for what, number in sorted(notes.items()))])


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    recovery = sorted(s for o in outcomes for s in o.recovery_s)
    flights = [o.least_in_flight for o in outcomes if o.least_in_flight]
    return (
        name,
        str(len(outcomes)),
        _sum(o.kills for o in outcomes),
        _sum(o.pauses for o in outcomes),
        _sum(o.cuts for o in outcomes),
        _sum(o.runs for o in outcomes),
        _sum(o.writes for o in outcomes),
        *(_sum(len(o.wrongs.get(w, ())) for o in outcomes) for w in WRONGS),
        _sum(o.unknown for o in outcomes),
        _sum(o.quarantined for o in outcomes),
        _sum(o.asked_again for o in outcomes),
        f">={min(flights)}" if flights else "-",
        _quantile(recovery, 0.5),
        _quantile(recovery, 0.95),
    )


def _sum(numbers: Iterable[int]) -> str:
    return f"{sum(numbers):,}"


def _quantile(ordered: Sequence[float], share: float) -> str:
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.2f}" if ordered else "-"
