"""``collegium worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from collegium.cli.options import command
from collegium.cli.serve import EXIT_IF_AWAY
from collegium.cli.session import Session, pass_session

if TYPE_CHECKING:
    from collegium.wiring.patience import Ending

_CAPABILITIES = "Take only tasks that ask for one of these: a,b. All that the agents have by default."
_HEALTH = "Answer /healthz, /readyz and /metrics on this port; [worker] health_host says where."


@command("worker")
@click.option("--capabilities", metavar="A,B", help=_CAPABILITIES)
@click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Tasks to work on at once; 64.")
@click.option("--health-port", metavar="P", type=click.IntRange(0, 65_535), help=_HEALTH)
@click.option("--exit-if-unavailable", "is_impatient", is_flag=True, help=EXIT_IF_AWAY)
@pass_session
def worker(
    session: Session,
    /,
    *,
    capabilities: str | None,
    concurrency: int | None,
    health_port: int | None,
    is_impatient: bool,
) -> int:
    """Work on every run of the store, whoever submitted it, until SIGTERM or `collegium workers drain`.

    Any number of workers share a store, on one machine or on many. SIGTERM or Ctrl-C ends it in good order, with 0:
    nothing new is taken, what is worked on is parked and goes on with others at once. Stores that are away are waited
    for.

    \b
      collegium worker --capabilities research,write --concurrency 16
    """  # noqa: D301  \b keeps click from wrapping what follows
    from collegium.cli.process import run_process

    wanted = None if capabilities is None else [name.strip() for name in capabilities.split(",") if name.strip()]
    options = {
        "worker.capabilities": wanted,
        "worker.concurrency": concurrency,
        "worker.health_port": health_port,
        "worker.start_patience_s": 0.0 if is_impatient else None,
    }
    session.given = {key: value for key, value in options.items() if value is not None}
    return run_process(lambda ending: _work(session, ending), name="worker")


async def _work(session: Session, ending: Ending) -> int:
    from collegium.wiring.work import work

    def ready(worker: str) -> None:
        if session.is_json:
            session.emit({"worker": worker})

    await work(session.settings, ending, ready=ready)
    return 0
