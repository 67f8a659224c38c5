"""The header of a GGUF file: what a local model is, read without loading it.

Source: ggml's ``docs/gguf.md``, versions 2 and 3.
"""

from __future__ import annotations

import mmap
import struct
from math import prod
from pathlib import Path

import msgspec

from collegium.domain.errors import UnknownName, UnreadableInput

_MAGIC = b"GGUF"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

Value = str | int | float | bool | None


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the header says. ``has_tools`` is whether the chat template knows tool calls."""

    architecture: str
    name: str
    parameters: int
    context_tokens: int
    has_tools: bool
    has_chat_template: bool


def read_header(path: Path) -> GgufHeader:
    """The header of the file at ``path``.

    Raises:
        UnknownName: there is no such file.
        UnreadableInput: it cannot be read, or is not a whole GGUF file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[:4] != _MAGIC:
                raise UnreadableInput(
                    f"{path} is not a GGUF file (it begins with {start[:4]!r}, not b'GGUF'): "
                    "models in other formats must be converted to GGUF first",
                    path=str(path),
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data).header()
    except FileNotFoundError as error:
        raise UnknownName(
            f"there is no model file {path}; `collegium models ls` lists the models that are there", path=str(path)
        ) from error
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{path} cannot be read: {error}", path=str(path)) from error
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise UnreadableInput(
            f"{path} is a GGUF file with a broken or cut header; fetch it again", path=str(path)
        ) from error


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4

    def header(self) -> GgufHeader:
        self._number(_U32)  # version
        tensors, pairs = self._number(_U64), self._number(_U64)
        values: dict[str, Value] = {}
        for _ in range(pairs):
            key = self._string()
            values[key] = self._value(self._number(_U32))
        architecture = str(values.get("general.architecture", ""))
        template = str(values.get("tokenizer.chat_template") or "")
        context = values.get(f"{architecture}.context_length")
        return GgufHeader(
            architecture=architecture,
            name=str(values.get("general.name", "")),
            parameters=sum(self._tensor() for _ in range(tensors)),
            context_tokens=context if isinstance(context, int) else 4096,
            has_tools="tools" in template,
            has_chat_template=bool(template),
        )

    def _number(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return int(value)

    def _string(self) -> str:
        size = self._number(_U64)
        text = self._data[self._at : self._at + size]
        self._at += size
        return text.decode()

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            self._skip_array()
            return None
        layout = struct.Struct(_SCALARS[kind])
        (value,) = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return value if isinstance(value, int | float) else None

    def _skip_array(self) -> None:
        kind, count = self._number(_U32), self._number(_U64)
        if kind in _SCALARS:
            self._at += count * struct.calcsize(_SCALARS[kind])
        elif kind == _STRING:
            # Vocabularies have a hundred thousand strings: step over them without building one.
            data, at, unpack = self._data, self._at, _U64.unpack_from
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
            self._at = at
        else:
            for _ in range(count):
                self._value(kind)

    def _tensor(self) -> int:
        """How many weights the next tensor has."""
        self._string()
        dimensions = [self._number(_U64) for _ in range(self._number(_U32))]
        self._number(_U32)  # type
        self._number(_U64)  # offset
        return prod(dimensions)
