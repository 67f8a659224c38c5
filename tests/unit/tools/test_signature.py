"""A function's signature as a schema, and arguments held against it."""

import dataclasses
from typing import Annotated, Any, Literal, Optional

import jsonschema
import msgspec
import pytest

from collegium.domain.errors import ToolError, UsageError
from collegium.tools.context import ToolContext
from collegium.tools.signature import Signature


class Filter(msgspec.Struct):
    column: str
    value: int = 0


@dataclasses.dataclass
class Point:
    x: float
    y: float


def everything(
    text: str,
    count: int,
    share: float,
    is_new: bool,
    names: list[str],
    table: dict[str, int],
    mode: Literal["fast", "slow"],
    where: Filter,
    at: Point,
    context: ToolContext,
    note: Optional[str] = None,  # noqa: UP045  # the older spelling works too
    pages: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3,
    extra: list[Filter] = [],  # noqa: B006
) -> str:
    """Take one of everything.

    Even more of it.

    Args:
        text: What to say,
            on two lines.
        count (int): How often.
        context: Never shown.

    Returns:
        Nothing of use.
    """
    return text


GOOD: dict[str, Any] = {
    "text": "a",
    "count": 2,
    "share": 0.5,
    "is_new": True,
    "names": ["x"],
    "table": {"a": 1},
    "mode": "fast",
    "where": {"column": "c"},
    "at": {"x": 1, "y": 2.5},
}


def test_the_schema_is_one_and_says_what_the_docstring_says():
    signature = Signature(everything, tool="everything")
    jsonschema.Draft202012Validator.check_schema(signature.schema)
    properties = signature.schema["properties"]
    assert list(properties) == [
        "text", "count", "share", "is_new", "names", "table", "mode", "where", "at", "note", "pages", "extra",
    ]  # fmt: skip
    assert signature.schema["required"] == list(GOOD)
    assert signature.schema["additionalProperties"] is False
    assert signature.context_parameter == "context"
    assert signature.description == "Take one of everything.\n\nEven more of it."
    assert properties["text"] == {"type": "string", "description": "What to say, on two lines."}
    assert properties["count"]["description"] == "How often."
    assert properties["mode"]["enum"] == ["fast", "slow"]
    assert properties["pages"] == {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}
    assert properties["extra"]["default"] == []
    assert set(signature.schema["$defs"]) == {"Filter", "Point"}
    assert jsonschema.Draft202012Validator(signature.schema).is_valid(GOOD)


def test_arguments_are_converted_and_defaults_left_to_the_function():
    bound = Signature(everything, tool="everything").bind(GOOD)
    assert bound["where"] == Filter(column="c")
    assert bound["at"] == Point(1.0, 2.5)
    assert not {"note", "pages", "extra"} & set(bound)


def test_a_whole_float_is_an_integer_as_in_json_schema():
    assert Signature(everything, tool="everything").bind({**GOOD, "count": 2.0})["count"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": "2"}, "count: expected int, got str"),
        ({"count": 2.5}, "count: expected int, got float"),
        ({"count": True}, "count: expected int, got bool"),
        ({"names": ["a", 3]}, "names[1]: expected str, got int"),
        ({"mode": "middling"}, "mode: invalid enum value 'middling'"),
        ({"where": {}}, "where: object missing required field column"),
        ({"pages": 10}, "pages: expected int <= 9"),
        ({"note": 5}, "note: expected str | null, got int"),
        ({"share": float("nan")}, "the argument share is nan"),
        ({"txt": "a"}, "there is no argument 'txt', did you mean 'text'?"),
        ({"context": {}}, "there is no argument 'context'"),
    ],
)
def test_the_model_is_told_which_argument_is_wrong(change: dict[str, Any], said: str):
    with pytest.raises(ToolError) as caught:
        Signature(everything, tool="everything").bind({**GOOD, **change})
    assert said in str(caught.value)


def test_everything_that_is_missing_is_named_at_once():
    with pytest.raises(ToolError) as caught:
        Signature(everything, tool="everything").bind({})
    text = str(caught.value)
    assert "missing: text (string), count (integer)" in text
    assert "mode (one of 'fast', 'slow')" in text
    assert "names (list of string)" in text
    assert "It takes text (string)" in text


def positional(a: int, /) -> None: ...
def starred(*a: int) -> None: ...
def keywords(**a: int) -> None: ...
def untyped(a) -> None: ...
def unsupported(a: complex) -> None: ...
def two_contexts(a: ToolContext, b: ToolContext) -> None: ...
def unresolved(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (positional, "a is positional-only; remove the /"),
        (starred, "a model cannot fill *a; name each"),
        (keywords, "a model cannot fill **a; name each"),
        (untyped, "a has no type; annotate it, for example a: str"),
        (unsupported, "<class 'complex'> is not supported; use str, int"),
        (two_contexts, "it takes the ToolContext twice"),
        (unresolved, "name 'Nowhere' is not defined"),
    ],
)
def test_a_signature_no_model_can_fill_is_refused_when_it_is_written(function: Any, said: str):
    with pytest.raises(UsageError) as caught:
        Signature(function, tool="mine")
    assert "tool 'mine'" in str(caught.value)
    assert said in str(caught.value)
