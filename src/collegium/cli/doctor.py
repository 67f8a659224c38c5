"""``collegium doctor``."""

from __future__ import annotations

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@command("doctor")
@pass_session
def doctor(session: Session) -> int:
    """Check this machine, and say what to do: Python, SQLite, data folder, store, extras, model, keys.

    Exits with 1 where something fails. Nothing is changed, downloaded or paid.
    """
    return session.execute(_doctor(session))


async def _doctor(session: Session) -> int:
    from collegium.cli.checks import check_all

    checks = await check_all(session)
    is_fine = all(check.level != "fail" for check in checks)
    if session.is_json:
        session.emit({"ok": is_fine, "checks": [check._asdict() for check in checks]})
        return 0 if is_fine else 1
    from rich.text import Text

    from collegium.cli.text import one_line

    width = max(len(check.name) for check in checks)
    for check in checks:
        line = Text.assemble((f"{check.level:<5}", _STYLES[check.level]), f" {check.name:<{width}}  ")
        session.out.print(line.append(one_line(check.found)), soft_wrap=not session.out.is_terminal)
        if check.advice:
            session.out.print(Text(f"{'':<{width + 8}}{one_line(check.advice)}", style="dim"), soft_wrap=True)
    return 0 if is_fine else 1
