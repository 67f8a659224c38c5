"""The reference pages, made from the commands and settings: ``python -m collegium.cli.reference FOLDER``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from collegium.cli.entry import root
from collegium.cli.estimate import USUAL
from collegium.cli.options import GLOBAL_NAMES, global_options
from collegium.config import KEY_VARIABLES, PREFIX, Settings

_CLI_HEAD = """# Command line

Made by `python -m collegium.cli.reference docs/reference` from the commands themselves; a test keeps it in step.

## On every command

These stand before or behind a command's name.

{options}

With `--json` there is exactly one JSON document on standard output, for errors too: `{{"error": {{"code",
"message", "fields"}}}}`. Progress goes to standard error: a live tree on a terminal, one line for each change
elsewhere.

## Exit codes

| code | means |
|---|---|
| 0 | succeeded, or partial: the answer says what is missing |
| 1 | the run failed, or `doctor` found something that fails |
| 2 | wrong use or configuration: an unknown name, a missing key, a file that is not there |
| 3 | the run waits for a person |
| 4 | a limit was reached; what there is was printed |
| 5 | the store or the model's server cannot be reached or used |
| 130 | cancelled or interrupted |

A run that fails because of its model's server, key or name ends with the code of that error (5 or 2), not with 1.

Ctrl-C (or SIGTERM) ends cleanly: what is being worked on is parked and stored, and `collegium runs resume ID` goes
on there. A second one ends at once; nothing that was stored is lost by it either.

A run is named by its id, by any unique part of it of at least 4 characters, or by `last`.

`COLLEGIUM_DEBUG=1` shows the traceback of errors.
"""
_ESTIMATE_HEAD = """## How `--plan-only` estimates

Calls and tokens that a task of each kind usually takes, times the price of the model. Real runs differ by a factor
of two either way; `--limit-usd` is a promise, the estimate is not. A researcher takes nothing where the model
cannot call tools by itself (it then searches without it), a writer nothing where answers are taken from the
sources word by word.

| agent's kind | model calls | input tokens | output tokens |
|---|--:|--:|--:|
"""
_SETTINGS_HEAD = """# Configuration

Made by `python -m collegium.cli.reference docs/reference` from the settings themselves; a test keeps it in step.

Settings come from one file, `collegium.toml` in the current folder (or `--config FILE`, or `COLLEGIUM_CONFIG`),
from the environment, and from options; the later wins. `collegium config show` prints every value that holds and
where it comes from. `collegium init` makes a file with comments. Relative paths in the file are relative to the
file.

Every key can be set as `{prefix}SECTION__KEY`: `inputs.max_files` is `{prefix}INPUTS__MAX_FILES`. Lists and tables
are written as JSON there. A key that does not exist is an error, with the nearest one that does.

| key | default | what it does |
|---|---|---|
"""
_SETTINGS_TAIL = """
`data_dir` is by default `$XDG_DATA_HOME/collegium`, else `~/.local/share/collegium` (on macOS
`~/Library/Application Support/collegium`).

## Tables by model name

```toml
[models.prices."openai-compatible:my-model@https://models.example.com/v1"]
{price}

[models.profiles."openai-compatible:my-model@*"]
{profile}
```

## Keys and other variables

Provider keys are never settings. They are read from the environment: {keys}. `OPENAI_BASE_URL` and the like are
honoured. `NO_COLOR=1` takes the colours away.
"""


def cli_page() -> str:
    """The text of ``docs/reference/cli.md``."""
    head = _CLI_HEAD.format(options=_options(global_options(), click.Context(root)))
    estimates = "".join(
        f"| {kind} | {c.calls} | {c.input_tokens:,} | {c.output_tokens:,} |\n" for kind, c in USUAL.items()
    )
    return "\n".join([head, *_commands(root, "collegium"), _ESTIMATE_HEAD + estimates])


def settings_page() -> str:
    """The text of ``docs/reference/configuration.md``."""
    rows = "".join(f"| `{key}` | {default} | {text} |\n" for key, default, text in _settings(Settings))
    keys = ", ".join(f"`{k}`" for k in KEY_VARIABLES)
    models = Settings.model_fields["models"].annotation
    tables = {name: _values(models, name) for name in ("prices", "profiles")}
    tail = _SETTINGS_TAIL.format(keys=keys, price=tables["prices"], profile=tables["profiles"])
    return _SETTINGS_HEAD.format(prefix=PREFIX) + rows + tail


def _commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        elif command is not None:
            yield _command(command, f"{path} {name}")


def _command(command: click.Command, path: str) -> str:
    context = click.Context(command)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    own = [p for p in command.params if isinstance(p, click.Option) and p.name not in GLOBAL_NAMES]
    usage = " ".join([path, *(["[OPTIONS]"] if own else []), *(a.make_metavar(context) for a in arguments)])
    parts = [f"## `{usage}`\n", _prose(command.help or "")]
    if own:
        parts.append(_options(own, context) + "\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    r"""A docstring as Markdown: what click keeps as it is (behind ``\b``) becomes a block of code."""
    blocks = []
    for block in text.strip().split("\n\n"):
        lines = [line.strip() for line in block.splitlines()]
        if lines and lines[0] == "\b":
            blocks.append("\n".join(["```", *lines[1:], "```"]))
        else:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _options(options: list[Any], context: click.Context) -> str:
    rows = ["| option | does |", "|---|---|"]
    for option in options:
        record = option.get_help_record(context)
        if record is not None:
            rows.append(f"| `{record[0]}` | {_RANGE.sub('', record[1]).strip()} |")
    return "\n".join(rows)


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _settings(section, f"{name}.")
        else:
            yield f"{prefix}{name}", _default(name, field), field.description or ""


def _default(name: str, field: FieldInfo) -> str:
    if name == "store":
        return "`sqlite:///<data_dir>/collegium.db`"
    if name == "data_dir":
        return "see below"
    value = field.default
    if value is None or value in ([], {}):
        return "none"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


_RANGE = re.compile(r"\s+\[[^]]*x[^]]*\]$")
_SAMPLES = {
    "input_usd": "0.50",
    "output_usd": "1.50",
    "tool_mode": '"native"',
    "can_plan": "true",
    "can_write": "true",
    "context_tokens": "32768",
    "max_output_tokens": "4096",
}


def _values(models: Any, table: str) -> str:
    _, row = get_args(models.model_fields[table].annotation)
    return "\n".join(f"{name} = {_SAMPLES[name]}" for name in row.model_fields)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for page, text in (("cli.md", cli_page()), ("configuration.md", settings_page())):
        (folder / page).write_text(text, "utf-8")
