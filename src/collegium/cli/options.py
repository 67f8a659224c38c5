"""The options that every command has, before or behind its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click


@dataclass
class Options:
    """What was said for all commands."""

    is_json: bool = False
    store: str | None = None
    server: str | None = None
    config: Path | None = None
    data_dir: Path | None = None
    has_no_color: bool = False

    def has_color(self, stream: IO[str]) -> bool:
        """Whether ``stream`` is to be coloured. Source: https://no-color.org."""
        is_plain = self.has_no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return not is_plain and stream.isatty()

    def overrides(self) -> dict[str, object]:
        """The settings that were given as options."""
        given = {"store": self.store, "data_dir": None if self.data_dir is None else str(self.data_dir)}
        return {key: value for key, value in given.items() if value is not None}


def global_options() -> list[click.Parameter]:
    """New parameters, for one command; they fill the ``Options`` of the invocation."""
    return [
        click.Option(
            ["--json", "is_json"],
            is_flag=True,
            help="Print one JSON document on standard output.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--store"],
            metavar="URL",
            help="Where runs are kept; sqlite:///PATH.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--server"],
            metavar="URL",
            help="Ask this server instead of a store; COLLEGIUM_URL, and its key in COLLEGIUM_KEY.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Configuration file instead of ./collegium.toml.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--data-dir"],
            metavar="DIR",
            type=click.Path(path_type=Path),
            help="Folder of store, models and logs.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--no-color", "has_no_color"],
            is_flag=True,
            help="No colours; so does NO_COLOR=1.",
            expose_value=False,
            callback=_keep,
        ),
    ]


GLOBAL_NAMES = frozenset({"is_json", "store", "server", "config", "data_dir", "has_no_color"})


class Command(click.Command):
    """A command with the options that every command has."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params += global_options()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options first, those of every command behind them."""
        write_options(self, ctx, formatter)


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Writes the options of ``command`` in two sections: its own, and those of every command."""
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for parameter in command.get_params(ctx):
        if not isinstance(parameter, click.Option):
            continue
        record = parameter.get_help_record(ctx)
        if record is not None:
            is_common = parameter.name in GLOBAL_NAMES or parameter.name == "help"
            (common if is_common else own).append(record)
    for title, records in (("Options", own), ("On every command", common)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


def command(name: str) -> Callable[[Callable[..., Any]], Command]:
    """Makes a ``Command`` of a function."""
    return click.command(name, cls=Command)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value and parameter.name is not None:
        setattr(context.ensure_object(Options), parameter.name, value)
