"""The suite of embedders on every adapter."""

import subprocess
import sys

import numpy as np
import pytest

from collegium.adapters.embedders.static import StaticEmbedder
from collegium.testing.conformance.embedder import EmbedderConformance


class TestStaticEmbedder(EmbedderConformance):
    def make(self):
        return StaticEmbedder()

    async def test_it_is_what_the_package_itself_computes(self):
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        from collegium.adapters.embedders import static

        folder = static._folder()
        (matrix,) = load_file(folder / static._WEIGHTS).values()
        tokenizer = Tokenizer.from_file(str(folder / static._TOKENIZER))
        text = "Nightly backups are kept for 35 days."
        mean = matrix[tokenizer.encode(text, add_special_tokens=False).ids].astype(np.float32).mean(axis=0)
        (vector,) = await self.make().embed([text])
        assert np.asarray(vector) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)


def test_it_never_loads_network_code():
    program = (
        "import asyncio, sys\n"
        "from collegium.adapters.embedders.static import StaticEmbedder\n"
        "asyncio.run(StaticEmbedder().embed(['hello']))\n"
        "print(sorted({'wordllama', 'requests', 'huggingface_hub', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
