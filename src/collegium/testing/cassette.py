"""Cassettes: model calls recorded at the ``Model`` port, and played without a key or a network."""

from __future__ import annotations

from collegium.adapters.models.cassette import (
    Cassette,
    CassetteModels,
    CassettePlayer,
    CassetteRecorder,
    CassetteWriter,
)

__all__ = ["Cassette", "CassetteModels", "CassettePlayer", "CassetteRecorder", "CassetteWriter"]
