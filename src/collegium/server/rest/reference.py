"""``python -m collegium.server.rest.reference docs/reference``: writes the operations of the API down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from collegium.server.rest.api import make_api

_HEAD = """# The API

Made by `python -m collegium.server.rest.reference docs/reference`; do not edit. A running server has the whole
document, with schemas, at `/openapi.json` and as a page at `/docs`. [How to use it](../how-to/api.md).
"""


def text() -> str:
    """The page: operations by resource."""
    by_tag: dict[str, list[str]] = {}
    paths: dict[str, Any] = make_api("0", {}).openapi()["paths"]
    for path, operations in paths.items():
        for method, one in operations.items():
            row = f"| `{method.upper()} {path}` | {one.get('summary', '')} |"
            by_tag.setdefault((one.get("tags") or ["other"])[0], []).append(row)
    parts = [f"## {tag}\n\n| operation | does |\n|---|---|\n" + "\n".join(sorted(rows)) for tag, rows in by_tag.items()]
    return _HEAD + "\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1], "api.md").write_text(text(), encoding="utf-8")
