"""What ``collegium run`` is asked for: read, checked, submitted."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from collegium.domain.errors import UnreadableInput, UsageError
from collegium.domain.goal import check_text
from collegium.domain.principal import check_project

if TYPE_CHECKING:
    from collegium.app import Collegium, Run
    from collegium.cli.display import Display
    from collegium.config import Settings
    from collegium.domain.usage import Limits

PRIORITIES = {"low": 3, "normal": 2, "high": 1, "urgent": 0}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What ``collegium run`` was asked for, read and checked."""

    goal: str
    files: tuple[str, ...]
    model: str | None
    agents: Path | None
    limit_usd: Decimal | None
    limit_tokens: int | None
    limit_tool_calls: int | None
    parallel: int | None
    deadline_s: float | None
    priority: int
    is_plan_only: bool
    is_plan_reviewed: bool
    is_detached: bool
    is_new: bool
    record: Path | None
    replay: Path | None
    continues: str | None
    output_schema: dict[str, Any] | None
    out: Path | None
    project: str = ""


def read_wanted(goal: tuple[str, ...], options: dict[str, Any]) -> Wanted:
    """The words of the command line. Raises ``UsageError`` for what cannot be."""
    if len(goal) > 1:
        raise UsageError(
            f"there are {len(goal)} goals, {goal[0]!r} and {goal[1]!r}: "
            "put the goal in quotes, and --files before each path"
        )
    if options["is_plan_only"] and options["is_plan_reviewed"]:
        raise UsageError("--plan-only and --review-plan exclude each other: the first ends with the plan")
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
    if options["project"]:
        check_project(options["project"])
    return Wanted(
        goal=check_text(_goal_text(goal[0])),
        limit_usd=read_usd(options.pop("limit_usd")),
        priority=PRIORITIES[options.pop("priority")],
        output_schema=_schema(options.pop("output_schema")),
        **options,
    )


async def submit(app: Collegium, wanted: Wanted, display: Display) -> Run:
    """Submits the goal; whatever is wrong with it or its model is said before there is a run."""
    from collegium.cli.find import find_run
    from collegium.cli.person import user

    continues = None if wanted.continues is None else await find_run(app, wanted.continues)
    display.note("opening the model" + (", reading " + ", ".join(wanted.files) if wanted.files else ""))
    return await app.submit(
        wanted.goal,
        files=wanted.files,
        limits=_limits(wanted, app.limits),
        priority=wanted.priority,
        is_plan_only=wanted.is_plan_only,
        is_plan_reviewed=wanted.is_plan_reviewed,
        principal=user(None),
        output_schema=wanted.output_schema,
        continues=continues,
        project=wanted.project,
        goes_on=not wanted.is_new and not wanted.is_detached,
    )


def _limits(wanted: Wanted, usual: Limits) -> Limits:
    """The limits of the settings, with those that were given as options in their place."""
    given = {
        "cost_usd": wanted.limit_usd,
        "tokens": wanted.limit_tokens,
        "tool_calls": wanted.limit_tool_calls,
        "parallel": wanted.parallel,
        "deadline_s": wanted.deadline_s,
    }
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def with_agents(settings: Settings, agents: Path | None) -> Settings:
    """``settings`` with one more file of agents."""
    if agents is None:
        return settings
    from collegium.config import AgentsSection

    return settings.model_copy(update={"agents": AgentsSection(files=[*settings.agents.files, agents])})


def _goal_text(goal: str) -> str:
    if goal != "-":
        return goal
    if sys.stdin.isatty():
        print("Type the goal, then Ctrl-D.", file=sys.stderr)
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"the goal on standard input is no UTF-8 text: {error}") from error


def read_usd(text: str | None) -> Decimal | None:
    """The amount behind ``--limit-usd``, if there is one. Raises ``UsageError``."""
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
