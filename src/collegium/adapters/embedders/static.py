"""A static embedding model (a vector per token, averaged) out of the wheel of ``wordllama``: no download."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

from collegium.domain.errors import MissingExtra

_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
_DIM: Final = 256
_BATCH: Final = 256
_SMALL: Final = 16
"""Up to this many texts are embedded without leaving the event loop."""


class StaticEmbedder:
    """Implements ``ports.Embedder`` with the 256-dimensional model of ``wordllama``.

    The package itself is never imported (it would bring its network code along): its files are found and
    read. They are read on first use, in about half a second, and take some 50 MB of memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._matrix: Any = None
        self._tokenizer: Any = None

    @property
    def space(self) -> str:
        """Model and version of the package whose files are used."""
        try:
            version = metadata.version("wordllama")
        except metadata.PackageNotFoundError:
            raise _missing() from None
        return f"wordllama-l2-supercat-256/{version}"

    @property
    def dim(self) -> int:
        """256."""
        return _DIM

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """``(n, 256)`` float32, L2-normalised; a text without any token gives zeros."""
        if not texts:
            return []
        if len(texts) <= _SMALL and self._matrix is not None:
            return self._embed(texts)
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        import numpy as np

        self._load()
        rows = np.zeros((len(texts), _DIM), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            encoded = self._tokenizer.encode_batch(list(texts[start : start + _BATCH]), add_special_tokens=False)
            for number, tokens in enumerate(encoded, start):
                ids = np.asarray(tokens.ids, dtype=np.int64)
                if len(ids):
                    rows[number] = self._matrix[np.minimum(ids, len(self._matrix) - 1)].mean(axis=0)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        result: Sequence[Sequence[float]] = np.divide(rows, norms, out=rows, where=norms > 0)
        return result

    def _load(self) -> None:
        with self._lock:
            if self._matrix is not None:
                return
            try:
                import numpy as np
                from tokenizers import Tokenizer
            except ImportError:
                raise _missing() from None
            folder = _folder()
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            self._tokenizer = tokenizer
            self._matrix = _read_matrix(folder / _WEIGHTS).astype(np.float32)


def _folder() -> Path:
    spec = util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise _missing()
    return Path(spec.origin).parent


def _read_matrix(path: Path) -> Any:
    """The only tensor of a safetensors file.

    Source: https://github.com/huggingface/safetensors#format (8 bytes little-endian header size, JSON header,
    raw data).
    """
    import numpy as np

    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    (tensor,) = (value for name, value in header.items() if name != "__metadata__")
    kind = {"F16": "<f2", "F32": "<f4"}[tensor["dtype"]]
    start, end = tensor["data_offsets"]
    return np.frombuffer(data[8 + size + start : 8 + size + end], dtype=kind).reshape(tensor["shape"])


def _missing() -> MissingExtra:
    return MissingExtra(
        "the static embedding model needs numpy, tokenizers and wordllama; install them with: pip"
        " install 'collegium[local]'",
        extra="local",
    )
