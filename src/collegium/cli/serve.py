"""``collegium serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.wiring.patience import Ending

_HEALTH = "Answer /healthz, /readyz and /metrics alone; allowed on any address."
OPEN = "open to everybody on this machine, until `collegium keys create` makes the first key"
EXIT_IF_AWAY = "End with 5 if the stores are away at the start, instead of trying again."


@command("serve")
@click.option("--host", metavar="H", help="Address to listen on; 127.0.0.1.")
@click.option("--port", metavar="P", type=click.IntRange(0, 65_535), help="Port; 8420. 0 for any free one.")
@click.option("--workers", metavar="N", type=click.IntRange(0, 1_024), help="Worker processes to keep running; 1.")
@click.option("--health-only", "health_only", is_flag=True, default=None, help=_HEALTH)
@click.option("--exit-if-unavailable", "is_impatient", is_flag=True, help=EXIT_IF_AWAY)
@pass_session
def serve(session: Session, /, *, is_impatient: bool, **given: Any) -> int:
    """Keep workers running on every run of the store, and answer HTTP: /healthz, /readyz, /metrics.

    SIGTERM or Ctrl-C ends it in good order: workers take nothing new, what they do is parked for others, /readyz
    answers 503 at once. A worker that crashes is started again. Stores that are away are waited for.

    \b
      collegium serve --workers 4
      curl http://127.0.0.1:8420/readyz
    """  # noqa: D301  \b keeps click from wrapping what follows
    from collegium.cli.process import run_process

    options = {f"server.{key}": value for key, value in given.items()}
    if is_impatient:
        options["worker.start_patience_s"] = 0.0
    session.given = {key: value for key, value in options.items() if value is not None}
    return run_process(lambda ending: _serve(session, ending), name="serve")


async def _serve(session: Session, ending: Ending) -> int:
    from collegium.cli.text import count
    from collegium.wiring.serve import serve

    settings = session.settings
    workers = settings.server.workers

    def listening(url: str) -> None:
        if session.is_json:
            session.emit({"url": url, "workers": workers})
        session.tell(f"collegium serves on {url} with {count(workers, 'worker')}")

    def opened(is_open: bool) -> None:
        # Loopback without keys is open to whoever uses this machine, and says so.
        session.tell(OPEN if is_open else "whoever asks shows a key or a token")

    return 0 if await serve(settings, ending, listening=listening, opened=opened) else 1
