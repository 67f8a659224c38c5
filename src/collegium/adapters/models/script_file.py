"""Scripts in files, for ``--model scripted:FILE``.

::

    ordered = false                       # default true
    [profile]                             # optional: what the model claims to be able to do
    tool_mode = "schema"

    [[step]]
    expect = ["List the tasks"]           # all must occur in the request
    reply = '{"tasks": []}'
    [[step]]
    expect_last = ["owner"]               # all must occur in the last message
    tool_calls = [{name = "search", arguments = {query = "owner"}}]
    [[step]]
    error = "model_rate_limited"          # a code of domain/errors.py
    retry_after_s = 2
    times = 3

JSON files have the same names.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from collegium.adapters.models.error_codes import MODEL_ERRORS, model_error
from collegium.adapters.models.script import Step
from collegium.domain import errors
from collegium.domain.chat import Finish, Json, ToolCall
from collegium.domain.usage import Usage


class ScriptedCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A tool call of a step; without ``id`` it gets one."""

    name: str
    arguments: Json = {}
    id: str = ""


class ScriptedStep(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One step, as in ``script.Step``; ``reply`` may also be an object, which is answered as JSON."""

    expect: list[str] | str = []
    expect_last: list[str] | str = []
    reply: str | Json = ""
    tool_calls: list[ScriptedCall] = []
    finish: Finish | None = None
    error: str | None = None
    message: str = ""
    retry_after_s: float | None = None
    delay_s: float = 0.0
    usage: Usage | None = None
    times: int | Literal["any"] = 1
    label: str = ""


class ClaimedProfile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the scripted model claims to be able to do; what is left out stays as in ``SCRIPTED_PROFILE``."""

    tool_mode: Literal["native", "schema", "none"] | None = None
    can_plan: bool | None = None
    can_write: bool | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that are set."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


class ScriptFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A whole script."""

    step: list[ScriptedStep]
    ordered: bool = True
    profile: ClaimedProfile = msgspec.field(default_factory=ClaimedProfile)

    def as_steps(self) -> list[Step]:
        """The steps, ready to answer."""
        return [_step(step) for step in self.step]


def load_script(path: str) -> ScriptFile:
    """The script in a ``.json`` or ``.toml`` file.

    Raises:
        UnreadableInput: the file is missing, cannot be read, or is not a script; the text says where it fails.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise errors.UnreadableInput(f"the script {path!r} cannot be read: {error.strerror}", path=path) from error
    try:
        if file.suffix == ".json":
            return msgspec.json.decode(data, type=ScriptFile)
        return msgspec.convert(tomllib.loads(data.decode()), ScriptFile)
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise errors.UnreadableInput(f"{path!r} is not a script of replies: {error}", path=path) from error


def _step(step: ScriptedStep) -> Step:
    return Step(
        expect=_texts(step.expect),
        expect_last=_texts(step.expect_last),
        reply=step.reply if isinstance(step.reply, str) else msgspec.json.encode(step.reply).decode(),
        tool_calls=tuple(ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in step.tool_calls),
        finish=step.finish,
        error=_error(step),
        delay_s=step.delay_s,
        usage=step.usage,
        times=None if step.times == "any" else step.times,
        label=step.label,
    )


def _error(step: ScriptedStep) -> errors.ModelError | None:
    if step.error is None:
        return None
    if step.error not in MODEL_ERRORS:
        raise errors.UnreadableInput(
            f"the script asks for the error {step.error!r}; known are {', '.join(MODEL_ERRORS)}", error=step.error
        )
    text = step.message or f"the script says {step.error}"
    return model_error(step.error, text, retry_after_s=step.retry_after_s)


def _texts(value: list[str] | str) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
