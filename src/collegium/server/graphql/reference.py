"""``python -m collegium.server.graphql.reference docs/reference``: writes the schema down."""

from __future__ import annotations

import sys
from pathlib import Path

from collegium.server.graphql.schema import make_schema


def text() -> str:
    """The schema, as its page has it."""
    return make_schema().as_str() + "\n"


if __name__ == "__main__":
    Path(sys.argv[1], "graphql.graphql").write_text(text(), encoding="utf-8")
