"""``collegium migrate --from URL --to URL``: a store moved into another one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from collegium.cli.text import count, seconds

if TYPE_CHECKING:
    from collegium.cli.session import Session
    from collegium.wiring.transfer import Transferred

_SAYS_EVERY_S = 1.0
_NAMES = {"heads": "runs"}


async def move(session: Session, source: str, target: str, *, is_dry: bool) -> int:
    """Moves it, or says what would be moved; 1 where something of it is not as it was written."""
    from collegium.wiring.transfer import transfer

    began_s = time.monotonic()
    said_s = began_s

    def progress(what: str, done: int, total: int) -> None:
        nonlocal said_s
        if done == total or time.monotonic() - said_s >= _SAYS_EVERY_S:
            said_s = time.monotonic()
            session.tell(f"{what}: {done:,} of {total:,}")

    done = await transfer(session.settings, source, target, is_dry=is_dry, progress=progress)
    took_s = time.monotonic() - began_s
    if session.is_json:
        session.emit(_document(done, took_s, is_dry=is_dry))
    else:
        for line in _lines(done, took_s, is_dry=is_dry):
            print(line)
    return 0 if done.damaged is None else 1


def _document(done: Transferred, took_s: float, *, is_dry: bool) -> dict[str, Any]:
    from collegium.wiring.transfer import NOT_MOVED

    return {
        "dry_run": is_dry,
        "from": done.source,
        "to": done.target,
        "counts": {_NAMES.get(name, name): number for name, number in done.counts.items()},
        "written": done.moved._asdict(),
        "was_done": done.was_done,
        "is_verified": not is_dry and done.damaged is None,
        "damaged": done.damaged,
        "lapsing_workers": done.left,
        "not_moved": NOT_MOVED,
        "seconds": round(took_s, 3),
    }


def _lines(done: Transferred, took_s: float, *, is_dry: bool) -> list[str]:
    from collegium.wiring.transfer import NOT_MOVED

    held = ", ".join(f"{number:,} {_NAMES.get(name, name)}" for name, number in done.counts.items())
    if done.damaged is not None:
        mend = f"mend {done.source} (`collegium audit verify`), then run the same again"
        return [_damage(done), f"{done.target} stays closed: {mend}"]
    if is_dry:
        return [f"{done.source} would go to {done.target}: {held}"]
    if done.was_done:
        return [f"{done.source} was moved to {done.target} before, and nothing has changed since: {held}"]
    written = f"{count(done.moved.runs, 'run')} and {count(done.moved.blobs, 'blob')} were written now"
    lines = [
        f"{done.source} is in {done.target}: {held}",
        f"every chain and every blob was verified; {written}, in {seconds(took_s)}",
    ]
    if done.left:
        lines.append(f"attempts of {', '.join(done.left)} were open: the first worker there goes on with them")
    lines.append("not moved, of the data folder:")
    lines += [f"  {name}: {why}" for name, why in NOT_MOVED.items()]
    lines.append("the chain key file has to be the same there; schedules, approvals and limits go on as they are")
    return lines


def _damage(done: Transferred) -> str:
    bad = done.damaged
    if bad is None or bad.run is None:
        return f"not as it was written: {'' if bad is None else bad.why or f'checkpoint {bad.checkpoint}'}"
    return f"not as it was written: run {bad.run}, from event {bad.seq} on{f' ({bad.why})' if bad.why else ''}"
