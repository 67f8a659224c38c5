"""``collegium config``."""

from __future__ import annotations

import json

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

config = LazyGroup(
    "config",
    help="Look at the settings.",
    lazy={"show": Lazy("collegium.cli.config_show:show", "Show every setting and where it comes from.")},
)

QUIET = ("default", "there is none")


@command("show")
@pass_session
def show(session: Session) -> int:
    """Show every effective setting with its source: default, file, environment variable or command line.

    Secrets are masked.
    """
    from collegium.config import explain

    rows = explain(session.settings)
    if session.is_json:
        session.emit({"settings": [row._asdict() for row in rows]})
        return 0
    from collegium.cli.columns import print_columns

    shown = [(r.key, (_shown(r.value), "" if r.source in QUIET else "cyan"), (r.source, "dim")) for r in rows]
    print_columns(session.out, ("setting", "value", "source"), shown)
    return 0


def _shown(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
