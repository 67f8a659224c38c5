"""What is said to a model and what it says back."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from collegium.domain.usage import Price, Usage

Json = dict[str, Any]
"""A JSON object as decoded: the values are only str, int, float, bool, None, list and dict."""

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "refusal"]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call a model proposes. ``id`` is the provider's and pairs the call with its result."""

    id: str
    name: str
    arguments: Json


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One message of a conversation. A ``tool`` message answers the call named by ``call_id``."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    name: str | None = None


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of a tool; ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: Json


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model call.

    Attributes:
        messages: The conversation; system messages first.
        tools: What may be called, in a stable order (provider caches work on stable prefixes).
        output_schema: JSON Schema that the reply's text must satisfy (a JSON document), or None for free text.
        max_output_tokens: Cap that is really sent to the provider: reservations count on it.
        cached_prefix: How many leading messages are the same in the next calls (a hint for provider caches).
    """

    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"
    output_schema: Json | None = None
    max_output_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    cached_prefix: int = 0


class ModelReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole reply. ``usage.cost_usd`` is set where the price is known; ``is_price_known`` says whether it is."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"
    usage: Usage = Usage()
    model: str = ""
    is_price_known: bool = True

    @property
    def message(self) -> ChatMessage:
        """The reply as the next message of the conversation."""
        return ChatMessage(role="assistant", text=self.text, tool_calls=self.tool_calls)


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a reply's text while it is being written: for viewers only, never stored."""

    text: str


class ModelProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do.

    Attributes:
        name: As on the command line, e.g. ``openai:gpt-x``; ``id`` at the provider stands behind the colon.
        provider: OpenTelemetry's ``gen_ai.provider.name``.
        tool_mode: ``native`` tool calls, ``schema`` (a constrained JSON choice of tool or final answer), or ``none``.
        can_plan: Whether a plan may be asked of it; otherwise a template of the plan library is used.
        can_write: Whether its prose is worth having; otherwise answers are extracted from the sources.
        context_tokens: Input and output together.
        price: None where nobody knows it; an error only under a money limit.
        is_local: Costs nothing and leaves the machine alone.
    """

    name: str
    provider: str
    tool_mode: Literal["native", "schema", "none"]
    can_plan: bool
    can_write: bool
    context_tokens: int
    max_output_tokens: int = 4096
    price: Price | None = None
    is_local: bool = False


def estimate_tokens(text: str) -> int:
    """A fair guess of the tokens of ``text``, for filling a context; never for a limit."""
    return (len(text.encode()) + 2) // 3


def upper_bound_tokens(request: ModelRequest) -> int:
    """An upper bound of the input tokens of ``request``, chat template and tool descriptions included.

    A byte-level tokenizer never makes more tokens than there are bytes; that bound is what limits reserve, because a
    guess
    would let a limit be overrun. What was not used is given back when the call is settled.
    """
    total = 64
    for message in request.messages:
        total += 32 + len(message.text.encode())
        total += sum(32 + len(msgspec.json.encode(call)) for call in message.tool_calls)
    total += sum(32 + len(msgspec.json.encode(tool)) for tool in request.tools)
    if request.output_schema is not None:
        total += 32 + len(msgspec.json.encode(request.output_schema))
    return total
