"""Equal calls look equal, different calls look different, and a key names one call."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collegium.domain.errors import ToolError
from collegium.tools.canonical import arguments_sha256, canonical_arguments, canonical_bytes, idempotency_key

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
objects = st.dictionaries(texts, values, max_size=5)


def shuffled(value: Any) -> Any:
    """The same JSON value, written differently: keys the other way round, whole numbers as floats."""
    match value:
        case dict():
            return {name: shuffled(item) for name, item in reversed(value.items())}
        case list():
            return [shuffled(item) for item in value]
        case bool():
            return value
        case int() if abs(value) <= 2**53:
            return float(value)
    return value


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: unlike in Python ``True`` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(objects)
def test_the_spelling_does_not_matter(arguments: dict[str, Any]):
    assert canonical_bytes(shuffled(arguments)) == canonical_bytes(arguments)
    assert arguments_sha256(shuffled(arguments)) == arguments_sha256(arguments)


@given(objects)
def test_nothing_is_lost_and_once_is_enough(arguments: dict[str, Any]):
    stored = canonical_bytes(arguments)
    assert same(json.loads(stored), arguments)
    assert canonical_bytes(msgspec.json.decode(stored)) == stored
    assert canonical_arguments(canonical_arguments(arguments)) == canonical_arguments(arguments)


@given(objects, objects)
def test_different_calls_have_different_hashes(one: dict[str, Any], other: dict[str, Any]):
    assert (arguments_sha256(one) == arguments_sha256(other)) == same(one, other)


def test_the_form_itself_never_changes():
    arguments = {"b": 1.0, "a": {"é": [True, None, -0.0, 0.1, 1e21]}, "c": "x y"}
    assert canonical_bytes(arguments) == '{"a":{"é":[true,null,0,0.1,1e21]},"b":1,"c":"x y"}'.encode()
    assert arguments_sha256({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"a": [1, math.nan]}, "the argument a[1] is nan"),
        ({"a": {"b": math.inf}}, "the argument a.b is inf"),
        ({"a": "\ud800"}, "the argument a holds half a character"),
        ({"\ud800": 1}, "holds half a character"),
        ({"a": b"bytes"}, "the argument a is a bytes"),
        ({"a": {1: 2}}, "the argument a has a key that is no text"),
        (nested(70), "nested deeper than 64 levels"),
    ],
)
def test_what_json_cannot_carry_is_refused(arguments: dict[str, Any], said: str):
    with pytest.raises(ToolError) as caught:
        canonical_bytes(arguments)
    assert said in str(caught.value)


calls = st.tuples(texts, texts, st.integers(0, 99), st.integers(0, 99))


@given(calls, calls)
def test_a_key_names_one_call(one: tuple[str, str, int, int], other: tuple[str, str, int, int]):
    def key(call: tuple[str, str, int, int]) -> str:
        return idempotency_key(call[0], call[1], step=call[2], call=call[3])

    assert (key(one) == key(other)) == (one == other)


def test_a_key_never_changes():
    key = idempotency_key("run_1", "t1", step=3, call=0)
    assert key == "run_1-370ee82c499d07593cf3e39fc0187006"
