"""What is not as it was written, in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collegium.runtime.audit import Damage


def told(damage: Damage) -> str:
    """The line for ``damage``: which run or checkpoint, where it begins, and what shows it."""
    from collegium.cli.text import short_id

    shard = f" of shard {damage.shard}" if damage.shard is not None else ""
    if damage.run is None:
        return f"checkpoint {damage.checkpoint}{shard} {damage.why}"
    what = "its tombstone" if damage.seq == 0 else f"event {damage.seq}"
    says = f", says checkpoint {damage.checkpoint}{shard}" if damage.checkpoint is not None else ""
    shown = f" ({damage.why}{says})" if damage.why else ""
    name = short_id(damage.run) if damage.run.startswith("run_") else damage.run
    return f"{name}  was changed: {what} is not as it was written{shown}"
