"""The root of all commands, and the one place where errors become a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from collegium.cli import failure
from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import Options
from collegium.domain.errors import CollegiumError

INTERRUPTED = 130

COMMANDS = {
    "run": Lazy("collegium.cli.run:run", "Do a goal, over files if you like."),
    "runs": Lazy("collegium.cli.runs:runs", "Look at runs, cancel them, resume them."),
    "approvals": Lazy("collegium.cli.approvals:approvals", "What runs ask people: look, answer."),
    "schedules": Lazy("collegium.cli.schedules:schedules", "Goals that come again: add, look, pause."),
    "topics": Lazy("collegium.cli.topics:topics", "Messages on the bus: look, publish, requeue."),
    "stop": Lazy("collegium.cli.stop:stop", "Stop a tenant, a run, an agent or a tool."),
    "start": Lazy("collegium.cli.stop:start", "Let go on what was stopped."),
    "agents": Lazy("collegium.cli.agents:agents", "Look at the team, check declarations."),
    "audit": Lazy("collegium.cli.audit:audit", "Hold journals against what was signed of them."),
    "privacy": Lazy("collegium.cli.privacy:privacy", "Export and erase what is held of a principal."),
    "tools": Lazy("collegium.cli.tools:tools", "Look at tools, call one by hand."),
    "keys": Lazy("collegium.cli.keys:keys", "Keys of the API: make, list, rotate, revoke."),
    "serve": Lazy("collegium.cli.serve:serve", "Keep workers running and answer HTTP."),
    "worker": Lazy("collegium.cli.worker:worker", "Work on every run of the store."),
    "workers": Lazy("collegium.cli.workers:workers", "Look at the workers, drain one."),
    "migrate": Lazy("collegium.cli.migrate:migrate", "Bring the tables of the store up to date."),
    "rotate-kek": Lazy("collegium.cli.rotate_kek:rotate_kek", "Encrypt data keys with a new key."),
    "rotate-dek": Lazy("collegium.cli.rotate_dek:rotate_dek", "Encrypt everything again, with new data keys."),
    "shred": Lazy("collegium.cli.shred:shred", "Destroy a tenant's data keys: nobody reads it any more."),
    "models": Lazy("collegium.cli.models:models", "Look at models, fetch one, try one."),
    "init": Lazy("collegium.cli.init:init", "Start a project: configuration, an agent, a README."),
    "config": Lazy("collegium.cli.config_show:config", "Show every setting and where it comes from."),
    "doctor": Lazy("collegium.cli.doctor:doctor", "Check this machine and say what to do."),
    "version": Lazy("collegium.cli.version:version", "Print the version."),
}

HELP = """Teams of agents that plan, work, check each other and remember.

\b
  collegium run "Who owns the payments service?" --files docs/
  collegium runs show last
"""

root = LazyGroup("collegium", lazy=COMMANDS, help=HELP, context_settings={"max_content_width": 100})


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns its exit code.

    Whatever goes wrong is one message on standard error, never a traceback.
    """
    options = Options()
    if list(argv) == ["--version"]:
        argv = ["version"]
    # Until a command's own handler stands, a polite end is the same as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        result = root.main(list(argv), prog_name="collegium", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return failure.report("interrupted", "stopped", options=_told(options, argv), code=INTERRUPTED)
    except click.ClickException as error:
        return failure.report_usage(error, options=_told(options, argv))
    except BrokenPipeError:
        # Whoever read the output has enough of it: nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failure.FAILED
    except CollegiumError as error:
        return failure.report_error(error, options=_told(options, argv))
    except Exception as error:  # noqa: BLE001  the edge of the program: a person reads what comes out here
        return failure.report_internal(error, options=_told(options, argv))
    return result if isinstance(result, int) else 0


def _told(options: Options, argv: Sequence[str]) -> Options:
    """``options``, with ``--json`` even where parsing ended before it was reached."""
    words = list(argv[: argv.index("--")] if "--" in argv else argv)
    options.is_json = options.is_json or "--json" in words
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
