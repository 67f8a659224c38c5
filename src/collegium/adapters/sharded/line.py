"""The appends to one shard: in order, each behind the blobs that were put before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from collegium.adapters.admission import Append, Doubts, prepare
from collegium.adapters.sharded.blobs import GuardedBlobs
from collegium.adapters.sharded.shard import Shard
from collegium.domain.errors import CollegiumError, Conflict, StoreError, StoreUnavailable
from collegium.domain.event import Draft, Event, fence_change
from collegium.domain.head import Fence, HeadChange
from collegium.ports import Receipt


@dataclass(kw_only=True)
class Order:
    """What is to be appended, as the caller has said it."""

    run: str
    drafts: Sequence[Draft]
    expected: int | None
    fence: Fence | tuple[Fence, ...] | None
    head: HeadChange | None
    _request: Append | None = None

    @property
    def request(self) -> Append:
        """The same, checked and encoded, where that is needed: the shard does it too. Raises ValueError."""
        if self._request is None:
            self._request = prepare(self.run, self.drafts, expected=self.expected, fence=self.fence, head=self.head)
        return self._request

    def check(self) -> None:
        """Raises ValueError where the call itself is wrong."""
        _ = self.request


class Line:
    """Passes appends on to a shard's journal, at once where no blob is on its way.

    A barrier covers the blobs that its events name. They are in the catalogue, so an append waits until all that was
    put before it is durable there, and what comes after it waits behind it. One that names a blob that was lost fails,
    and so does what its attempt appends later: an effect is never durable without its cause.
    """

    def __init__(self, shard: Shard, blobs: GuardedBlobs) -> None:
        self._shard = shard
        self._blobs = blobs
        self._doubts = Doubts()
        self._waiting: list[WaitingReceipt] = []
        self._passing: asyncio.Task[None] | None = None
        self._is_closed = False

    def append(self, order: Order) -> Receipt:
        """Orders an append behind those before it. Raises ValueError where the call itself is wrong."""
        is_waiting = bool(self._waiting) or self._blobs.is_pending
        if not (is_waiting or self._blobs.has_lost or len(self._doubts) or self._is_closed):
            with suppress(StoreUnavailable):  # it was never open: refused below, like everything that comes behind it
                return PassedReceipt(self, order, self._pass_on(order))
        receipt = WaitingReceipt(self, order, self._doubts.ticket())
        if self._is_closed:
            self._refuse(receipt, self._shard.unavailable())
        elif is_waiting:
            self._waiting.append(receipt)
            if self._passing is None:
                self._passing = asyncio.create_task(self._pass())
        else:
            self._let_through(receipt)
        return receipt

    async def durable(self, order: Order, inner: Receipt) -> tuple[Event, ...]:
        """The events as the shard has stored them. Raises what it says, with the shard's number."""
        try:
            stored = await inner.durable()
        except Conflict as error:
            if self._waiting:
                # They were ordered before the caller heard of it, and the shard will get them afterwards.
                self._doubts.failed(order.request, error, inner)
                self._doubts.heard(order.request, inner)
            raise
        except StoreError as error:
            raise self._shard.told(error) from error
        if len(self._doubts):
            self._forget_closed(order.request)
        return stored

    def heard(self, receipt: WaitingReceipt) -> None:
        """Takes note that the caller knows of a refusal."""
        self._doubts.heard(receipt.order.request, receipt)

    async def aclose(self) -> None:
        """Passes on what waits, then takes nothing more; twice is harmless."""
        while self._passing is not None:
            await asyncio.gather(self._passing, return_exceptions=True)
        self._is_closed = True

    async def _pass(self) -> None:
        try:
            while self._waiting:
                first = list(self._waiting)
                await self._blobs.covered()
                for receipt in first:
                    self._let_through(receipt)
                del self._waiting[: len(first)]
        finally:
            self._passing = None
            left, self._waiting = self._waiting, []
            for receipt in left:  # the process ends in the middle of it
                self._refuse(receipt, StoreUnavailable(f"{self._shard.place} was closed", shard=self._shard.number))

    def _let_through(self, receipt: WaitingReceipt) -> None:
        request = receipt.order.request
        try:
            self._doubts.check(request, receipt.ticket)
            self._blobs.check(request.tenant, (entry.body for entry in request.entries))
            receipt.begin(self._pass_on(receipt.order))
        except CollegiumError as error:
            self._refuse(receipt, error)

    def _refuse(self, receipt: WaitingReceipt, error: CollegiumError) -> None:
        self._doubts.failed(receipt.order.request, error, receipt)
        receipt.refuse(error)

    def _pass_on(self, order: Order) -> Receipt:
        journal = self._shard.journal
        return journal.append(order.run, order.drafts, expected=order.expected, fence=order.fence, head=order.head)

    def _forget_closed(self, request: Append) -> None:
        """What is closed now needs no doubts: from here on its fence row refuses."""
        for entry in request.entries:
            task, attempt = entry.draft.task, entry.draft.attempt
            if fence_change(entry.type) == "close" and task is not None and attempt is not None:
                self._doubts.closed(request.run, task, attempt)


class RefusedReceipt:
    """Implements ``Receipt``: an append that no shard was asked for."""

    __slots__ = ("_error",)

    def __init__(self, error: CollegiumError) -> None:
        self._error = error

    async def durable(self) -> tuple[Event, ...]:
        """Raises the refusal."""
        raise type(self._error)(self._error.message, **self._error.fields)


class PassedReceipt:
    """Implements ``Receipt``: an append that went to the shard at once."""

    __slots__ = ("_inner", "_line", "_order")

    def __init__(self, line: Line, order: Order, inner: Receipt) -> None:
        self._line = line
        self._order = order
        self._inner = inner

    async def durable(self) -> tuple[Event, ...]:
        """The events as stored; see ``Receipt.durable``."""
        return await self._line.durable(self._order, self._inner)


class WaitingReceipt:
    """Implements ``Receipt``: an append that waits for blobs, or is checked against what failed before it."""

    __slots__ = ("_begun", "_error", "_inner", "_line", "order", "ticket")

    def __init__(self, line: Line, order: Order, ticket: int) -> None:
        order.check()
        self.order = order
        self.ticket = ticket
        self._line = line
        self._begun = asyncio.Event()
        self._inner: Receipt | None = None
        self._error: CollegiumError | None = None

    def begin(self, inner: Receipt) -> None:
        """Has been passed on to the shard."""
        self._inner = inner
        self._begun.set()

    def refuse(self, error: CollegiumError) -> None:
        """Is not passed on."""
        self._error = error
        self._begun.set()

    async def durable(self) -> tuple[Event, ...]:
        """The events as stored; see ``Receipt.durable``."""
        await self._begun.wait()
        if self._inner is not None:
            return await self._line.durable(self.order, self._inner)
        self._line.heard(self)
        assert self._error is not None  # noqa: S101 one of the two is set
        raise type(self._error)(self._error.message, **self._error.fields)
