"""``collegium version``."""

from __future__ import annotations

import platform

from collegium import __version__
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session


@command("version")
@pass_session
def version(session: Session) -> int:
    """Print the version of collegium and of Python."""
    if session.is_json:
        session.emit({"collegium": __version__, "python": platform.python_version()})
    else:
        print(f"collegium {__version__}, Python {platform.python_version()}")
    return 0
