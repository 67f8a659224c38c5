"""The lean way in: any server that speaks Chat Completions, over aiohttp and msgspec and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import msgspec

from collegium.adapters.models import http_errors
from collegium.adapters.models.chat_reply import ReplyAssembler, whole_reply
from collegium.adapters.models.chat_wire import DECODE, Completion, encode_request
from collegium.adapters.models.connections import Connections, Timeouts
from collegium.adapters.models.dialects import GENERIC, Dialect
from collegium.adapters.models.pricing import UNKNOWN_PRICING, Pricing
from collegium.adapters.models.sse import EventParser
from collegium.domain.chat import Delta, ModelProfile, ModelReply, ModelRequest
from collegium.domain.errors import ModelError, ModelReplyError
from collegium.ports import Clock

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class OpenAICompatibleModel:
    """A ``Model`` behind a Chat Completions endpoint: OpenAI, vLLM, Ollama, llama.cpp and many others.

    Args:
        model: The model's id at the server.
        base_url: Up to and including the version, e.g. ``https://api.openai.com/v1``.
        key: The API key, or an empty string where the server asks for none. It appears in no error and no repr.
        profile: What the model can do.
        connections: Shared by all models of a registry; not closed by this model.
        clock: Reads ``Retry-After`` dates.
        dialect: What this kind of server understands.
        pricing: What calls cost.
        timeouts: For connecting, between bytes, and for a whole call.
        max_reply_bytes: A server that sends more is taken to never end.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        key: str,
        profile: ModelProfile,
        connections: Connections,
        clock: Clock,
        dialect: Dialect = GENERIC,
        pricing: Pricing = UNKNOWN_PRICING,
        timeouts: Timeouts | None = None,
        max_reply_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self._model = model
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key = key
        self._profile = profile
        self._connections = connections
        self._clock = clock
        self._dialect = dialect
        self._pricing = pricing
        self._timeout = (timeouts or Timeouts()).for_aiohttp()
        self._max_reply_bytes = max_reply_bytes
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._headers = headers

    def __repr__(self) -> str:
        return f"OpenAICompatibleModel({self._model!r}, {self._url!r})"

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return self._profile

    async def complete(self, request: ModelRequest) -> ModelReply:
        """The whole reply. See ``ports.Model``."""
        body = encode_request(request, self._model, self._dialect, stream=False)
        try:
            async with self._post(body) as response:
                data = await self._read(response)
                if response.status != 200:
                    raise self._status_error(response, data)
        except _FAILURES as error:
            raise http_errors.transport_error(error, where=self._url, model=self._model) from error
        return self._whole(data)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Pieces of text, then the whole reply. See ``ports.Model``."""
        body = encode_request(request, self._model, self._dialect, stream=True)
        try:
            async with self._post(body) as response:
                if response.status != 200:
                    raise self._status_error(response, await self._read(response))
                if response.content_type != "text/event-stream":
                    # A server that cannot stream, or no model server at all.
                    reply = self._whole(await self._read(response))
                    if reply.text:
                        yield Delta(text=reply.text)
                    yield reply
                    return
                assembler = ReplyAssembler(self._pricing, where=self._url)
                parser = EventParser(max_bytes=self._max_reply_bytes, where=self._url)
                is_done = False
                async for chunk in response.content.iter_any():
                    texts, is_done = self._texts(parser.feed(chunk), assembler)
                    if texts:
                        yield Delta(text=texts)
                    if is_done:
                        await _drain(response)
                        break
                if not is_done:
                    texts, _ = self._texts(parser.end(), assembler)
                    if texts:
                        yield Delta(text=texts)
        except _FAILURES as error:
            raise http_errors.transport_error(error, where=self._url, model=self._model) from error
        yield assembler.reply()

    async def aclose(self) -> None:
        """Nothing of its own to close: the connections belong to the registry."""

    def _post(self, body: bytes) -> aiohttp.client._RequestContextManager:
        # Redirects are not followed: a POST would become a GET, and the key would travel to another host.
        return self._connections.session().post(
            self._url, data=body, headers=self._headers, timeout=self._timeout, allow_redirects=False
        )

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        size = response.content_length
        if size is not None and size <= self._max_reply_bytes:
            return await response.read()
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > self._max_reply_bytes:
                raise ModelReplyError(
                    f"{self._url} sent more than {self._max_reply_bytes:,} bytes without ending its reply; "
                    "the call was given up",
                    url=self._url,
                )
        return bytes(data)

    def _texts(self, events: list[bytes], assembler: ReplyAssembler) -> tuple[str, bool]:
        """What ``events`` add to the text, and whether the server said that the stream is done."""
        texts: list[str] = []
        for data in events:
            if data == b"[DONE]":
                return "".join(texts), True
            texts.append(assembler.feed(self._decoded(data)))
        return "".join(texts), False

    def _whole(self, data: bytes) -> ModelReply:
        return whole_reply(self._decoded(data), self._pricing, where=self._url)

    def _decoded(self, data: bytes) -> Completion:
        try:
            completion = DECODE(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if data.lstrip()[:1] == b"<":
                raise http_errors.not_an_api(self._url, self._model) from None
            start = http_errors.scrub(data[:200].decode(errors="replace"), self._key)
            raise ModelReplyError(
                f"{self._url} sent a reply that cannot be read ({error}); it begins {start!r}", url=self._url
            ) from None
        if completion.error:
            raise http_errors.stream_error(completion.error, where=self._url, model=self._model, secret=self._key)
        return completion

    def _status_error(self, response: aiohttp.ClientResponse, data: bytes) -> ModelError:
        return http_errors.status_error(
            response.status,
            data,
            where=self._url,
            model=self._model,
            wait_s=http_errors.retry_after_s(response.headers, self._clock.now()),
            secret=self._key,
        )


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Reads the end of the stream, so that the connection can be used again; a server that dawdles loses it."""
    try:
        async with asyncio.timeout(0.5):
            while not response.content.at_eof():
                await response.content.readany()
    except TimeoutError:
        response.close()
