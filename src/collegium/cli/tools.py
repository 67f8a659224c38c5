"""``collegium tools``: what agents can call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from collegium.cli.lazy import Lazy, LazyGroup
from collegium.cli.options import command
from collegium.cli.session import Session, pass_session
from collegium.cli.text import one_line, visible
from collegium.domain.errors import UsageError

if TYPE_CHECKING:
    from collegium.domain.tool import ToolDefinition

tools = LazyGroup(
    "tools",
    help="Look at tools, call one by hand.",
    lazy={
        "ls": Lazy("collegium.cli.tools:ls", "List all tools."),
        "show": Lazy("collegium.cli.tools:show", "Show a tool and its parameters."),
        "call": Lazy("collegium.cli.tools:call", "Call a tool by hand."),
    },
)
_EFFECTS = {
    "pure": "only calculates",
    "read": "only looks",
    "idempotent_write": "writes; twice is once",
    "write": "writes",
}


@command("ls")
@pass_session
def ls(session: Session) -> int:
    """List all tools and what calling them does to the world."""
    from collegium.tools.builtin import builtin_tools
    from collegium.tools.toolbox import Toolbox

    definitions = Toolbox(builtin_tools()).definitions
    if session.is_json:
        session.emit({"items": [msgspec.structs.asdict(d) for d in definitions], "next": None})
        return 0
    from collegium.cli.columns import print_columns

    rows = [((d.name, "cyan"), _EFFECTS[d.effect], (d.description, "dim")) for d in definitions]
    print_columns(session.out, ("tool", "effect", "does"), rows, is_cut=True)
    return 0


@command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> int:
    """Show the tool NAME and its parameters."""
    found = find_tool(name)
    if session.is_json:
        session.emit(msgspec.structs.asdict(found))
        return 0
    print(f"{found.name}: {_EFFECTS[found.effect]}; at most {found.timeout_s:g} s; version {found.version}")
    print(f"\n{visible(found.description)}\n")
    required = set(found.parameters.get("required", ()))
    for parameter, schema in found.parameters.get("properties", {}).items():
        need = "" if parameter in required else f", default {schema.get('default')!r}"
        print(f"  {parameter} ({schema.get('type', 'any')}{need})  {one_line(schema.get('description', ''))}")
    return 0


@command("call")
@click.argument("name")
@click.option("--args", "arguments", metavar="JSON", default="{}", help="The arguments, a JSON object.")
@click.option("--files", multiple=True, metavar="PATH", help="Inputs of the call; repeat for more.")
@pass_session
def call(session: Session, name: str, arguments: str, files: tuple[str, ...]) -> int:
    """Call the tool NAME, in a run of its own: checked, journalled, and with what it writes kept.

    \b
      collegium tools call calculate --args '{"expression": "15% of 80"}'
      collegium tools call search_inputs --args '{"query": "owner"}' --files docs/
    """  # noqa: D301  \b keeps click from wrapping what follows
    from collegium.cli.tool_call import call_tool

    return session.execute(call_tool(session, find_tool(name).name, _object(arguments), files))


def find_tool(name: str) -> ToolDefinition:
    """The tool's definition. Raises ``UnknownName`` with the nearest names."""
    from collegium.tools.builtin import builtin_tools
    from collegium.tools.toolbox import Toolbox

    return Toolbox(builtin_tools()).granted([name])[0]


def _object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"--args is no JSON ({error}): write an object in single quotes, '{{\"name\": 1}}'") from error
    if not isinstance(value, dict):
        raise UsageError(f"--args is a {type(value).__name__}: it has to be a JSON object, '{{\"name\": 1}}'")
    return value
