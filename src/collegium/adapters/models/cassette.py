"""Model calls written to a file, and played from it: runs that can be repeated without a key or a network.

A cassette is JSON lines: one for each model that was opened (its profile) and one for each call (the request, and the
reply or the error). Nothing in it is a secret: requests hold no keys, and what looks like one is blotted out.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Literal

import msgspec

from collegium.adapters.models.caching import request_hash
from collegium.adapters.models.error_codes import model_error
from collegium.adapters.models.http_errors import blot_keys
from collegium.adapters.models.names import split_chain
from collegium.adapters.models.script import request_text
from collegium.adapters.models.streams import closing
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import ModelError, ModelRequestError, UnknownName, UnreadableInput
from collegium.ports import Model, Models

_DIFF_LINES = 40


class _Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: str
    message: str
    retry_after_s: float | None = None


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: Literal["model", "call"]
    model: str
    profile: ModelProfile | None = None
    hash: str = ""
    request: ModelRequest | None = None
    reply: ModelReply | None = None
    error: _Failure | None = None
    n: int = 0
    """In which order calls began, from 1: the lines stand in the order in which they ended."""


_DECODE = msgspec.json.Decoder(_Line).decode


class CassetteWriter:
    """A cassette that is being written; begins it anew. A crash leaves every call that had ended.

    Raises:
        UnreadableInput: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()
        self._begun = 0
        try:
            path.write_bytes(b"")
        except OSError as error:
            raise UnreadableInput(f"the cassette {path} cannot be written: {error.strerror}", path=str(path)) from error

    def model(self, profile: ModelProfile) -> None:
        """Writes what a model can do, once."""
        if profile.name not in self._known:
            self._known.add(profile.name)
            self._write(_Line(kind="model", model=profile.name, profile=profile))

    def begin(self) -> int:
        """A number for a call that begins now."""
        self._begun += 1
        return self._begun

    def call(self, model: str, request: ModelRequest, outcome: ModelReply | ModelError, *, n: int) -> None:
        """Writes one call that has ended; ``n`` is its number from ``begin``."""
        line = _Line(kind="call", model=model, hash=_hash(request), request=request, n=n)
        if isinstance(outcome, ModelReply):
            line = msgspec.structs.replace(line, reply=outcome)
        else:
            wait_s = outcome.fields.get("retry_after_s")
            failure = _Failure(
                code=outcome.code,
                message=outcome.message,
                retry_after_s=wait_s if isinstance(wait_s, float | int) else None,
            )
            line = msgspec.structs.replace(line, error=failure)
        self._write(line)

    def _write(self, line: _Line) -> None:
        text = blot_keys(msgspec.json.encode(line).decode())
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")


class CassetteRecorder:
    """``inner``, with every call written to ``cassette``: replies, and errors too."""

    def __init__(self, inner: Model, cassette: CassetteWriter | Path) -> None:
        self._inner = inner
        self._writer = cassette if isinstance(cassette, CassetteWriter) else CassetteWriter(cassette)
        self._writer.model(inner.profile)

    @property
    def profile(self) -> ModelProfile:
        """That of ``inner``."""
        return self._inner.profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        n = self._writer.begin()
        try:
            reply = await self._inner.complete(request)
        except ModelError as error:
            self._writer.call(self.profile.name, request, error, n=n)
            raise
        self._writer.call(self.profile.name, request, reply, n=n)
        return reply

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        n = self._writer.begin()
        try:
            async with closing(self._inner.stream(request)) as items:
                async for item in items:
                    if isinstance(item, ModelReply):
                        self._writer.call(self.profile.name, request, item, n=n)
                    yield item
        except ModelError as error:
            self._writer.call(self.profile.name, request, error, n=n)
            raise

    async def aclose(self) -> None:
        """Closes ``inner``."""
        await self._inner.aclose()


class Cassette:
    """A cassette that is played.

    Equal requests get their recorded outcomes in the order in which the calls began, each once: tasks that ask the same
    at the same time each get their own again.

    Raises:
        UnreadableInput: the file cannot be read or is no cassette.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.profiles: dict[str, ModelProfile] = {}
        self._calls: defaultdict[tuple[str, str], list[_Line]] = defaultdict(list)
        self._asked: defaultdict[tuple[str, str], int] = defaultdict(int)
        for line in _lines(path):
            if line.profile is not None:
                self.profiles[line.model] = line.profile
            else:
                self._calls[line.model, line.hash].append(line)
        for calls in self._calls.values():
            calls.sort(key=lambda line: line.n)

    def play(self, model: str, request: ModelRequest) -> ModelReply:
        """The next recorded reply to ``request``; raises the recorded error.

        Raises:
            ModelRequestError: there is none (left); the text holds a diff against the nearest recorded request.
        """
        key = model, _hash(request)
        position = self._asked[key]
        self._asked[key] += 1
        recorded = self._calls.get(key, [])
        if position >= len(recorded):
            raise ModelRequestError(self._miss(model, request, len(recorded)), cassette=str(self._path), model=model)
        line = recorded[position]
        if line.error is not None:
            raise model_error(line.error.code, line.error.message, retry_after_s=line.error.retry_after_s)
        if line.reply is None:
            raise UnreadableInput(f"{self._path} holds a call without an outcome", path=str(self._path))
        return line.reply

    def unused(self) -> int:
        """How many recorded calls were not played."""
        return sum(max(0, len(lines) - self._asked[key]) for key, lines in self._calls.items())

    def _miss(self, model: str, request: ModelRequest, times: int) -> str:
        if times:
            return f"the cassette {self._path} holds this request {times} times, and it was asked once more"
        asked = request_text(request).splitlines()
        others = [
            request_text(line.request).splitlines()
            for (name, _), lines in self._calls.items()
            for line in lines
            if name == model and line.request is not None
        ]
        if not others:
            return f"the cassette {self._path} holds no call of {model}"
        nearest = max(others, key=lambda other: difflib.SequenceMatcher(None, other, asked).ratio())
        diff = list(difflib.unified_diff(nearest, asked, "recorded", "asked", lineterm="", n=1))
        # Equal texts with other parameters: the diff of the texts would be empty.
        shown = diff[:_DIFF_LINES] or [
            "(the texts are equal: the temperature, the output cap or another option is not)"
        ]
        return "\n".join([f"the cassette {self._path} does not hold this request; the nearest one differs by:", *shown])


class CassettePlayer:
    """A ``Model`` that answers from a cassette; needs no key and no network.

    Args:
        cassette: The cassette, shared by the models in it.
        model: Which of them; not needed where there is one.
    """

    def __init__(self, cassette: Cassette | Path, model: str | None = None) -> None:
        self.cassette = cassette if isinstance(cassette, Cassette) else Cassette(cassette)
        names = list(self.cassette.profiles)
        if model is None and len(names) == 1:
            model = names[0]
        if model is None or model not in self.cassette.profiles:
            raise UnknownName(
                f"the cassette holds no calls of the model {model!r}; it has {', '.join(names) or 'no model'}",
                name=model,
            )
        self._profile = self.cassette.profiles[model]

    @property
    def profile(self) -> ModelProfile:
        """What the recorded model could do."""
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The recorded reply, or the recorded error. See ``Cassette.play``."""
        return self.cassette.play(self._profile.name, request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """The recorded reply in one piece, then whole."""
        reply = await self.complete(request)
        if reply.text:
            yield Delta(text=reply.text)
        yield reply

    async def aclose(self) -> None:
        """Nothing to close."""


class CassetteModels:
    """``Models`` whose calls are recorded, or played.

    Args:
        inner: Opens the models that are recorded; not asked for anything while playing.
        record: The cassette to write.
        replay: The cassette to play; wins over ``record``.
    """

    def __init__(self, inner: Models, *, record: Path | None = None, replay: Path | None = None) -> None:
        self._inner = inner
        self._cassette = Cassette(replay) if replay is not None else None
        self._writer = CassetteWriter(record) if record is not None and replay is None else None
        self._recorders: dict[str, CassetteRecorder] = {}

    async def open(self, name: str) -> Model:
        """The model called ``name``. See ``ports.Models``."""
        name = ",".join(split_chain(name))  # as the profile of a chain is called
        if self._cassette is not None:
            return CassettePlayer(self._cassette, name)
        model = await self._inner.open(name)
        if self._writer is None:
            return model
        if name not in self._recorders:
            self._recorders[name] = CassetteRecorder(model, self._writer)
        return self._recorders[name]

    async def aclose(self) -> None:
        """Closes every model that was opened."""
        await self._inner.aclose()


def _hash(request: ModelRequest) -> str:
    return request_hash(request, "")


def _lines(path: Path) -> Iterable[_Line]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableInput(f"the cassette {path} cannot be read: {error.strerror}", path=str(path)) from error
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            yield _DECODE(line)
        except msgspec.DecodeError as error:
            raise UnreadableInput(
                f"{path} is not a cassette: line {number} cannot be read ({error})", path=str(path)
            ) from error
