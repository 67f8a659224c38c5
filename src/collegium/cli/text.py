"""Words and numbers for a terminal."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from decimal import Decimal

SHORT_ID_CHARS = 8


def visible(text: str) -> str:
    """``text`` with control characters made visible.

    Documents and models are not trusted: an escape sequence in them must not reach the terminal.
    """
    return "".join(c if c in "\n\t" or c.isprintable() or c == "\u200d" else _shown(c) for c in text)


def one_line(text: str) -> str:
    """``text`` on one line, safe to print."""
    return " ".join(visible(text).split())


def short_id(run: str) -> str:
    """The part of a run id that people type: eight digits of its random end (the last two name the shard)."""
    return run[-SHORT_ID_CHARS - 2 : -2]


def short_question(approval: str) -> str:
    """The part of a question's id that people type: that of its run, and its number."""
    run, _, number = approval.rpartition("_")
    return f"{short_id(run)}_{number}"


def short_schedule(schedule: str) -> str:
    """The part of a schedule's id that people type: eight digits of its random end."""
    return schedule[-SHORT_ID_CHARS:]


def seconds(value: float) -> str:
    """``3.1 s``, ``1:23``, ``1:02:03``."""
    if value < 59.95:
        return f"{max(value, 0.0):.1f} s"
    whole = round(value)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def tokens(value: int) -> str:
    """``1,204 tok``; from 100,000 on in thousands."""
    return f"{value / 1000:,.0f}k tok" if value >= 100_000 else f"{value:,} tok"


def usd(value: Decimal | float) -> str:
    """``$0.0012``; cents where there are dollars."""
    amount = Decimal(str(value))
    if amount == 0:
        return "$0"
    if amount < Decimal("0.0001"):
        return "<$0.0001"
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.4f}"


def size(value: int) -> str:
    """``512 B``, ``1.2 KiB``, ``93.8 MiB``."""
    if value < 1024:
        return f"{value} B"
    amount = float(value)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def count(number: int, noun: str) -> str:
    """``1 file``, ``32 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ago(moment: datetime, now: datetime) -> str:
    """``12 s ago``, ``5 min ago``, ``3 h ago``, ``2 d ago``."""
    passed = max(0, int((now - moment).total_seconds()))
    for limit, unit_s, unit in ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h")):
        if passed < limit:
            return f"{passed // unit_s} {unit} ago"
    return f"{passed // 86_400} d ago"


def _shown(character: str) -> str:
    if character == "\r" or unicodedata.category(character).startswith("Z"):
        return " "
    if character in "\u00ad\u200b\ufeff":
        return ""
    return f"\\x{ord(character):02x}"
