"""What is printed when a command fails: one message, what, which and what to do; as JSON where that was asked for."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from collegium.cli.options import Options
from collegium.cli.text import visible
from collegium.domain.errors import CollegiumError, exit_code
from collegium.domain.redaction import Redactor

WRONG_USE = 2
FAILED = 1


def report(code_name: str, message: str, *, options: Options, code: int, fields: dict[str, Any] | None = None) -> int:
    """Prints the error, without secrets that it may quote, and returns ``code``."""
    redact = _redactor(options).text
    message = redact(message)
    if options.is_json:
        told = json.loads(redact(json.dumps(fields or {}, ensure_ascii=False, default=_plain)))
        print(json.dumps({"error": {"code": code_name, "message": message, "fields": told}}, ensure_ascii=False))
    else:
        label = "\x1b[1;31merror:\x1b[0m" if options.has_color(sys.stderr) else "error:"
        print(f"{label} {visible(message)}", file=sys.stderr)
    return code


def report_error(error: CollegiumError, *, options: Options) -> int:
    """An error of the tree, with the exit code of its class."""
    if _is_debugging():
        traceback.print_exception(error)
    return report(error.code, error.message, options=options, code=exit_code(error), fields=error.fields)


def report_usage(error: click.ClickException, *, options: Options) -> int:
    """Wrong words on the command line; a group without a command shows its help."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not options.is_json:
        print(error.format_message(), file=sys.stderr)
        return WRONG_USE
    message = "name a command" if isinstance(error, click.exceptions.NoArgsIsHelpError) else error.format_message()
    message = message[:1].lower() + message[1:].rstrip(".")
    hint = f"; see `{context.command_path} --help`" if context is not None else ""
    return report("usage", message + hint, options=options, code=WRONG_USE)


def report_internal(error: Exception, *, options: Options) -> int:
    """A fault of ours: its type, and where the traceback lies."""
    if _is_debugging():
        traceback.print_exception(error)
    path = _log(error, options)
    where = f"the details are in {path}" if path is not None else "set COLLEGIUM_DEBUG=1 to see the details"
    message = f"internal error: {type(error).__name__}: {error}; this is a fault of collegium, {where}"
    fields = {"type": type(error).__name__, "log": None if path is None else str(path)}
    return report("internal", message, options=options, code=FAILED, fields=fields)


def logs_dir(options: Options) -> Path:
    """Where logs lie; beside the data where the settings can be read, else in the folder for temporary files."""
    from collegium.config import load_settings

    try:
        return load_settings(options.config, os.environ, options.overrides()).data_dir / "logs"
    except CollegiumError:
        return Path(tempfile.gettempdir())


def _log(error: Exception, options: Options) -> Path | None:
    name = f"error-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.log"
    for folder in (logs_dir(options), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(_redactor(options).text("".join(traceback.format_exception(error))), "utf-8")
        except OSError:
            continue
        return folder / name
    return None


def _redactor(options: Options) -> Redactor:
    """Knows the secrets of this installation, or of the environment where the settings cannot be read."""
    from collegium.config import load_settings
    from collegium.config.secrets import redactor_of

    try:
        return redactor_of(load_settings(options.config, os.environ, options.overrides()), os.environ)
    except CollegiumError:
        return redactor_of(None, os.environ)


def _is_debugging() -> bool:
    return os.environ.get("COLLEGIUM_DEBUG") == "1"


def _plain(value: object) -> object:
    """Fields of errors may hold values of the domain."""
    import msgspec

    return msgspec.to_builtins(value, enc_hook=str)
