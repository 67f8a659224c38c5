"""The courier of a serving process: it tells webhooks what has happened."""

from __future__ import annotations

import random
import uuid

from collegium.adapters.webhooks import HttpSender
from collegium.app import Collegium
from collegium.config import Settings
from collegium.domain.ids import Ids
from collegium.ports import Clock
from collegium.runtime.courier import Courier
from collegium.runtime.webhooks import Webhooks


def make_courier(settings: Settings, app: Collegium, *, clock: Clock) -> Courier:
    """A courier over the stores of ``app``, to be started and ended."""
    ids = Ids(lambda: int(clock.now().timestamp() * 1_000))
    return Courier(
        f"serve:{uuid.uuid4().hex}",
        Webhooks(app.stores.records, now=clock.now, ids=ids),
        HttpSender(settings.webhooks.networks),
        journal=app.stores.journal,
        records=app.stores.records,
        clock=clock,
        random=random.random,
    )
