"""Uploads as one principal may make and use them."""

from __future__ import annotations

from collections.abc import Sequence

from collegium.app import Collegium
from collegium.domain.document import GivenFile
from collegium.domain.principal import Principal
from collegium.runtime.uploads import Upload, Uploads
from collegium.server.access.page import Page, cursor, place
from collegium.server.access.reach import Reach


class UploadAccess:
    """The uploads of the principal's tenant; those of others are not there (``NotFound``).

    They belong to no project yet: whoever is limited to some has its own alone.
    """

    def __init__(self, app: Collegium, principal: Principal) -> None:
        self._principal = principal
        self._reach = Reach(app, principal)
        stores = app.stores
        self._uploads = Uploads(stores.records, stores.blobs, tenant=principal.tenant, now=app.now, ids=app.ids)

    async def add(self, name: str, data: bytes) -> Upload:
        """Keeps a file for a goal to come."""
        self._principal.require("runs:write")
        return await self._uploads.add(name, data, principal=self._principal.id)

    async def show(self, upload: str) -> Upload:
        """What was handed over."""
        self._principal.require("runs:read")
        return await self._show(upload)

    async def page(self, *, after: str | None = None, limit: int = 50) -> Page[Upload]:
        """Uploads by id, the oldest first. Raises ``UsageError`` for a cursor that is none."""
        self._principal.require("runs:read")
        behind = place("uploads", after)
        found = await self._uploads.page(after="" if behind is None else str(behind[0]), limit=limit + 1)
        shown = found[:limit]
        following = cursor("uploads", shown[-1].id) if len(found) > limit else None
        return Page(items=tuple(one for one in shown if self._is_seen(one)), next=following)

    async def remove(self, upload: str) -> None:
        """Forgets an upload."""
        self._principal.require("runs:write")
        await self._show(upload)
        await self._uploads.remove(upload)

    async def files(self, uploads: Sequence[str]) -> tuple[GivenFile, ...]:
        """The files as a goal is given them."""
        self._principal.require("runs:write")
        for upload in uploads if self._reach.projects is not None else ():
            await self._show(upload)
        return await self._uploads.files(uploads)

    async def _show(self, upload: str) -> Upload:
        found = await self._uploads.show(upload)
        if not self._is_seen(found):
            self._reach.known("upload", upload)
        return found

    def _is_seen(self, upload: Upload) -> bool:
        return self._reach.projects is None or upload.principal == self._principal.id
