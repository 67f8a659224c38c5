"""A typed function, read as a tool: its JSON Schema, and the model's arguments checked against it."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from collegium.domain.chat import Json
from collegium.domain.errors import ToolError, UsageError
from collegium.tools.canonical import canonical_arguments
from collegium.tools.context import ToolContext

_SECTION: Final = re.compile(r"^(args|arguments|parameters|returns|raises|yields|examples?|notes?|source):\s*$", re.I)
_ARGUMENT: Final = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")


class Signature:
    """What a function takes.

    Attributes:
        schema: JSON Schema (an object, closed) of everything but the context.
        description: The docstring up to its first section.
        context_parameter: Name of the parameter annotated ``ToolContext``, or None.
    """

    def __init__(self, function: Callable[..., object], *, tool: str) -> None:
        """Reads ``function``. Raises ``UsageError`` for a signature that no schema can be made of."""
        self.tool = tool
        self.description, about = _docstring(function)
        hints = _hints(function, tool)
        self.context_parameter: str | None = None
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        defaults: dict[str, Any] = {}
        for parameter in inspect.signature(function).parameters.values():
            hint = _hint(parameter, hints, tool)
            if hint is ToolContext:
                if self.context_parameter is not None:
                    raise _wrong(tool, "it takes the ToolContext twice", "keep one of the two parameters")
                self.context_parameter = parameter.name
                continue
            note = about.get(parameter.name)
            described = hint if note is None else Annotated[hint, msgspec.Meta(description=note)]
            if parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, described))
            else:
                # The function's own default stands, whatever it is; UNSET: the model sent nothing.
                fields.append((parameter.name, described | UnsetType, UNSET))
                defaults[parameter.name] = parameter.default
        self._struct = _struct(tool, fields)
        self.schema = _schema(tool, self._struct, defaults)

    def bind(self, arguments: Json) -> dict[str, Any]:
        """Keyword arguments for the function, converted to its types.

        Conversion is strict: ``"5"`` is no integer; ``5.0`` is one, as in JSON Schema.

        Raises:
            ToolError: An argument is unknown, missing or of another type; the text tells a model which, and
                what was expected.
        """
        self._check_names(arguments)
        try:
            bound = msgspec.convert(canonical_arguments(arguments), self._struct)
        except msgspec.ValidationError as error:
            raise ToolError(f"{self.tool} cannot take these arguments: {_sentence(str(error))}") from error
        values = {name: getattr(bound, name) for name in self._struct.__struct_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}

    def _check_names(self, arguments: Json) -> None:
        known: dict[str, Any] = self.schema["properties"]
        required: list[str] = self.schema["required"]
        problems = [_unknown(name, known) for name in arguments if name not in known]
        missing = [f"{name} ({_kind(known[name])})" for name in required if name not in arguments]
        if missing:
            problems.append(f"missing: {', '.join(missing)}")
        if problems:
            takes = ", ".join(f"{name} ({_kind(schema)})" for name, schema in known.items()) or "no arguments"
            raise ToolError(f"{self.tool} cannot take these arguments: {'; '.join(problems)}. It takes {takes}.")


def _wrong(tool: str, what: str, act: str) -> UsageError:
    return UsageError(f"the function of tool {tool!r} cannot be a tool: {what}; {act}", tool=tool)


def _hints(function: Callable[..., object], tool: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        act = "define the types at module level, where the annotation can be resolved"
        raise _wrong(tool, f"its annotations cannot be read ({error})", act) from error


def _hint(parameter: inspect.Parameter, hints: dict[str, Any], tool: str) -> Any:
    name = parameter.name
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
        raise _wrong(tool, f"a model cannot fill {stars}{name}", "name each parameter, or take one list or dict")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise _wrong(tool, f"{name} is positional-only", "remove the / from the signature: tools are called by name")
    if name not in hints:
        raise _wrong(tool, f"{name} has no type", f"annotate it, for example {name}: str")
    return hints[name]


def _struct(tool: str, fields: list[Any]) -> type[msgspec.Struct]:
    return msgspec.defstruct(f"{tool}_arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _schema(tool: str, struct: type[msgspec.Struct], defaults: dict[str, Any]) -> Json:
    try:
        msgspec.json.Decoder(struct)
        _, definitions = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
    except TypeError as error:
        act = "use str, int, float, bool, list, dict, Literal, Optional, dataclasses or msgspec.Struct"
        raise _wrong(tool, " ".join(str(error).split()), act) from error
    own: Json = definitions.pop(struct.__name__)
    schema: Json = {
        "type": "object",
        "properties": own["properties"],
        "required": own["required"],
        "additionalProperties": False,
    }
    for name, default in defaults.items():
        try:
            schema["properties"][name]["default"] = msgspec.to_builtins(default)
        except TypeError:  # a default that JSON cannot show is still the function's default
            continue
    if definitions:
        schema["$defs"] = definitions
    return schema


def _docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The text before the first section, and the lines of ``Args:`` by parameter (Google style)."""
    summary: list[str] = []
    about: dict[str, str] = {}
    section, current = "", ""
    for line in (inspect.getdoc(function) or "").splitlines():
        text = line.strip()
        if not line.startswith(" ") and (heading := _SECTION.match(line)):
            section, current = heading[1].lower(), ""
        elif not section:
            summary.append(text)
        elif section in ("args", "arguments", "parameters") and text:
            # A parameter stands at the section's own indentation; what is deeper goes on with its text.
            is_deeper = len(line) - len(line.lstrip()) > 4
            if (match := _ARGUMENT.match(text)) and not is_deeper:
                current = match[1]
                about[current] = match[2]
            elif current:
                about[current] = f"{about[current]} {text}".strip()
    return "\n".join(summary).strip(), about


def _unknown(name: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"there is no argument {name!r}" + (f", did you mean {near[0]!r}?" if near else "")


def _kind(schema: Json) -> str:
    """A schema in a word or two, for an error text."""
    if "enum" in schema:
        return "one of " + ", ".join(repr(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "$ref" in schema:
        return "object " + str(schema["$ref"]).rpartition("/")[2]
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}" if schema.get("items") else "list"
    return str(schema.get("type", "anything"))


def _sentence(text: str) -> str:
    """A message of msgspec, with the place in front: ``Expected `int`, got `str` - at `$.n` ``."""
    what, found, place = text.partition(" - at ")
    where = place.strip("`").removeprefix("$").removeprefix(".")
    what = what.replace("`", "")
    return f"{where}: {what[:1].lower()}{what[1:]}" if found and where else what
