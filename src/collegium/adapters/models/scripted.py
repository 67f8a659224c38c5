"""A model that says what a script says: strict, for tests and for ``scripted:FILE``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self

import msgspec

from collegium.adapters.models.script import Script, Step, request_text
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest, estimate_tokens
from collegium.domain.usage import FREE, Usage
from collegium.ports import Clock

SCRIPTED_PROFILE = ModelProfile(
    name="scripted:inline",
    provider="scripted",
    tool_mode="native",
    can_plan=True,
    can_write=True,
    context_tokens=128_000,
    price=FREE,
    is_local=True,
)


class ScriptedModel:
    """A ``Model`` whose replies are written down beforehand.

    A request that matches no step raises ``ModelRequestError`` with a readable account of what was expected and what
    came, and is remembered; ``verify`` (called at the end of ``async with``) raises ``AssertionError`` for every such
    request and for every step that was not used. So neither an unexpected nor an unused step goes unseen, even where
    the system under test handles model errors.

    Args:
        steps: In order, or see ``ordered``.
        ordered: Whether the next request must match the next step; otherwise the first unused step that matches
            answers, which is what teams of agents at work at the same time need.
        profile: What the model claims to be able to do.
        clock: Waits for ``delay_s`` of a step; the real loop without it.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        ordered: bool = True,
        profile: ModelProfile = SCRIPTED_PROFILE,
        clock: Clock | None = None,
    ) -> None:
        self.script = Script(steps, ordered=ordered)
        self._profile = profile
        self._clock = clock

    @classmethod
    def from_file(cls, path: str, *, clock: Clock | None = None) -> Self:
        """The model of a JSON or TOML script; see ``load_script`` for the format."""
        from collegium.adapters.models.script_file import load_script

        loaded = load_script(path)
        profile = msgspec.structs.replace(SCRIPTED_PROFILE, name=f"scripted:{path}", **loaded.profile.changes())
        return cls(loaded.as_steps(), ordered=loaded.ordered, profile=profile, clock=clock)

    @property
    def profile(self) -> ModelProfile:
        """What the model claims to be able to do."""
        return self._profile

    @property
    def requests(self) -> list[ModelRequest]:
        """Every request so far, in order."""
        return self.script.requests

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The reply of the matching step, or its error."""
        step = self.script.take(request)
        if step.delay_s:
            await (self._clock.sleep(step.delay_s) if self._clock else asyncio.sleep(step.delay_s))
        if step.error is not None:
            raise step.error
        return self._reply(step, request)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """The reply of the matching step word by word, then whole."""
        reply = await self.complete(request)
        words = reply.text.split(" ")
        for position, word in enumerate(words):
            piece = word if position == 0 else f" {word}"
            if piece:
                yield Delta(text=piece)
        yield reply

    async def aclose(self) -> None:
        """Nothing to close; ``verify`` is what ends a script."""

    def verify(self) -> None:
        """Returns if every request was expected and every step used; else raises ``AssertionError`` saying what not."""
        self.script.verify()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.verify()

    def _reply(self, step: Step, request: ModelRequest) -> ModelReply:
        text = step.text_for(request)
        usage = step.usage or Usage(
            input_tokens=estimate_tokens(request_text(request)),
            output_tokens=max(1, estimate_tokens(text)),
            model_calls=1,
        )
        calls = step.numbered_calls(len(self.script.requests))
        finish = step.finish or ("tool_calls" if calls else "stop")
        return ModelReply(text=text, tool_calls=calls, finish=finish, usage=usage, model=self._profile.name)
