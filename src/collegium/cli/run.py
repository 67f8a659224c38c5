"""``collegium run``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.domain.errors import UnreadableInput, UsageError
from collegium.domain.goal import check_text

if TYPE_CHECKING:
    from collegium.app import Collegium
    from collegium.app import Run as RunHandle
    from collegium.cli.display import Display
    from collegium.cli.view import RunView
    from collegium.config import Settings

PRIORITIES = {"low": 3, "normal": 2, "high": 1, "urgent": 0}
_PRIORITY = "low, normal, high or urgent: which work goes first."
_FILE = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What ``collegium run`` was asked for, read and checked."""

    goal: str
    files: tuple[str, ...]
    model: str | None
    agents: Path | None
    limit_usd: Decimal | None
    limit_tokens: int | None
    deadline_s: float | None
    priority: int
    is_plan_only: bool
    is_detached: bool
    record: Path | None
    replay: Path | None
    continues: str | None
    output_schema: dict[str, Any] | None
    out: Path | None


@command("run")
@click.argument("goal", nargs=-1, required=True, metavar="GOAL")
@click.option("--files", multiple=True, metavar="PATH", help="A file or folder to work on; repeat for more.")
@click.option("--model", metavar="NAME", help="openai:NAME, local:NAME, openai-compatible:NAME@URL ...")
@click.option("--agents", metavar="FILE", type=_FILE, help="Agents beside the built-in ones, in TOML.")
@click.option("--limit-usd", metavar="X", help="Spend at most so many US dollars; held before each call.")
@click.option("--limit-tokens", metavar="N", type=click.IntRange(min=1), help="Use at most so many tokens.")
@click.option("--deadline-s", metavar="S", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@click.option("--priority", metavar="LEVEL", type=click.Choice(list(PRIORITIES)), default="normal", help=_PRIORITY)
@click.option("--plan-only", "is_plan_only", is_flag=True, help="Show the plan and what it may cost, then stop.")
@click.option("--detach", "is_detached", is_flag=True, help="Work in the background; print the run's id.")
@click.option("--record", metavar="FILE", type=_FILE, help="Write every model call to a cassette.")
@click.option("--replay", metavar="FILE", type=_FILE, help="Answer every model call from a cassette.")
@click.option("--continue", "continues", metavar="RUN", help="Ask on from a run: its answer and files are known.")
@click.option("--output-schema", metavar="FILE", type=_FILE, help="Answer with JSON that fits this JSON Schema.")
@click.option("--out", metavar="DIR", type=_FILE, help="Copy the files that the run writes here.")
@pass_session
def run(session: Session, /, goal: tuple[str, ...], **options: Any) -> int:
    """Do GOAL: plan it, work on it, check the answer against the files. "-" reads the goal from standard input.

    \b
      collegium run "Who owns the payments service?" --files docs/
      collegium run "Sum up the incidents as a table" --files incidents/ --out results/
      git log -20 | collegium run - --model openai:gpt-5-mini
    """  # noqa: D301  \b keeps click from wrapping what follows
    wanted = _read(goal, options)
    check_text(wanted.goal)
    if wanted.is_detached:
        from collegium.cli.detach import run_detached

        return run_detached(session, wanted)
    return session.execute(_run(session, wanted))


async def _run(session: Session, wanted: Wanted) -> int:
    from collegium.cli.display import display_for
    from collegium.cli.follow import follow
    from collegium.cli.outcome import copy_artifacts, hand_out, tell_copied
    from collegium.cli.view import RunView

    view = RunView(session.now)
    display = display_for(session.err, view)
    settings = with_agents(session.settings, wanted.agents)
    async with session.open(
        "own",
        model=wanted.model,
        settings=settings,
        record=wanted.record,
        replay=wanted.replay,
        on_indexing=display.indexed,
        on_pull=display.pulled,
    ) as app:
        with display:
            handle = await submit(app, wanted, display)
            session.run = handle.id
            report = await follow(handle, display)
        if wanted.is_plan_only and report.status == "succeeded":
            return await _show_plan(session, app, view, handle)
        written: list[str] = []
        if wanted.out is not None:
            written = await copy_artifacts(app, report.artifacts, tenant="default", out=wanted.out)
    session.err.print() if session.err.is_terminal and not session.is_json else None
    code = hand_out(session, report)
    tell_copied(session, written)
    return code


async def submit(app: Collegium, wanted: Wanted, display: Display) -> RunHandle:
    """Submits the goal; whatever is wrong with it or its model is said before there is a run."""
    from collegium.cli.find import find_run
    from collegium.domain.usage import Limits

    continues = None if wanted.continues is None else await find_run(app, wanted.continues)
    display.note("opening the model" + (", reading " + ", ".join(wanted.files) if wanted.files else ""))
    return await app.submit(
        wanted.goal,
        files=wanted.files,
        limits=Limits(cost_usd=wanted.limit_usd, tokens=wanted.limit_tokens, deadline_s=wanted.deadline_s),
        priority=wanted.priority,
        is_plan_only=wanted.is_plan_only,
        output_schema=wanted.output_schema,
        continues=continues,
    )


def with_agents(settings: Settings, agents: Path | None) -> Settings:
    """``settings`` with one more file of agents."""
    if agents is None:
        return settings
    from collegium.config import AgentsSection

    return settings.model_copy(update={"agents": AgentsSection(files=[*settings.agents.files, agents])})


async def _show_plan(session: Session, app: Collegium, view: RunView, handle: RunHandle) -> int:
    from collegium.cli.estimate import estimate
    from collegium.cli.outcome import hand_out
    from collegium.cli.planned import print_plan

    state = await handle.state()
    profile = (await app.models.open(state.goal.model)).profile
    made = estimate(state, app.roster, profile)
    if session.is_json:
        return hand_out(session, await handle.result(), {"estimate": made})
    print_plan(session.out, state, made, view.total)
    return 0


def _read(goal: tuple[str, ...], options: dict[str, Any]) -> Wanted:
    """What was asked for. Raises ``UsageError`` for what cannot be."""
    if len(goal) > 1:
        raise UsageError(
            f"there are {len(goal)} goals, {goal[0]!r} and {goal[1]!r}: "
            "put the goal in quotes, and --files before each path"
        )
    if options["record"] is not None and options["replay"] is not None:
        raise UsageError("--record and --replay exclude each other: a cassette is written or played")
    if options["is_detached"] and (options["record"] or options["replay"] or options["out"] or options["is_plan_only"]):
        raise UsageError("--detach goes with none of --record, --replay, --out, --plan-only: they need the run's end")
    if options["replay"] is not None and not options["replay"].is_file():
        raise UsageError(f"there is no cassette {options['replay']}: check --replay", path=str(options["replay"]))
    for path in options["files"]:
        # Looked at before a model is fetched or opened: a typing error is told at once.
        if not Path(path).expanduser().exists():
            raise UnreadableInput(f"there is no file or folder {path}: check the path behind --files", path=path)
    return Wanted(
        goal=_goal_text(goal[0]),
        limit_usd=_usd(options.pop("limit_usd")),
        priority=PRIORITIES[options.pop("priority")],
        output_schema=_schema(options.pop("output_schema")),
        **options,
    )


def _goal_text(goal: str) -> str:
    if goal != "-":
        return goal
    if sys.stdin.isatty():
        print("Type the goal, then Ctrl-D.", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the goal on standard input is no UTF-8 text: {error}") from error


def _usd(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text.removeprefix("$"))
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise UsageError(f"--limit-usd {text!r} is no amount: write dollars as 0.50")
    return value


def _schema(path: Path | None) -> dict[str, Any] | None:
    """The JSON Schema in the file, checked. Raises ``UsageError`` saying where it fails."""
    if path is None:
        return None
    import msgspec

    from collegium.agents.schema import OutputSchema

    try:
        schema = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"--output-schema {path} cannot be read: {os.strerror(error.errno or 0)}", path=str(path)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--output-schema {path} is no JSON: {error}", path=str(path)) from error
    if not isinstance(schema, dict):
        raise UsageError(f"--output-schema {path} is no JSON Schema: it has to be an object", path=str(path))
    try:
        OutputSchema(schema)
    except UsageError as error:
        raise UsageError(f"--output-schema {path}: {error.message}", path=str(path), **error.fields) from error
    return schema
