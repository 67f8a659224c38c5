"""Every plug point of collegium: the narrow waist between the rooms and the world.

Each port is born with two implementations and a behavioural conformance suite in ``collegium.testing.conformance``.
No port speaks of SQL, transactions or connections. All I/O is async; implementations are used from one event loop.
"""

from __future__ import annotations

from collegium.ports.encryption import KeyEncryption, KeyShelf, Sealer
from collegium.ports.knowledge import Embedder, Extractor, Index, Inputs, Retriever, Scorer
from collegium.ports.models import Model, Models
from collegium.ports.stores import Archive, Blobs, Cache, Journal, Receipt, Records
from collegium.ports.traffic import Bus, Directory, Presence, Quota
from collegium.ports.world import Clock, Workspace, Workspaces

__all__ = [
    "Archive",
    "Blobs",
    "Bus",
    "Cache",
    "Clock",
    "Directory",
    "Embedder",
    "Extractor",
    "Index",
    "Inputs",
    "Journal",
    "KeyEncryption",
    "KeyShelf",
    "Model",
    "Models",
    "Presence",
    "Quota",
    "Receipt",
    "Records",
    "Retriever",
    "Scorer",
    "Sealer",
    "Workspace",
    "Workspaces",
]
