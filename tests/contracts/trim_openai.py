"""Makes ``openai/openapi.json`` from OpenAI's whole description: the operations collegium uses, without prose.

Usage: python tests/contracts/trim_openai.py PATH/TO/openapi.yaml
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

COMMIT = "f85dbe2"
OPERATIONS = {"/chat/completions": "post", "/responses": "post", "/models": "get"}
ALSO = ("ErrorResponse",)
PROSE = {"description", "title", "example", "examples", "summary", "externalDocs", "deprecated"}


def without_prose(node: Any, *, is_map: bool = False) -> Any:
    """The node without texts for people; keys of a map of names (``properties``) are names, not keywords."""
    if isinstance(node, dict):
        kept = {
            key: without_prose(value, is_map=key in ("properties", "schemas") and not is_map)
            for key, value in node.items()
            if is_map or not (key in PROSE or key.startswith("x-"))
        }
        # The description is OpenAPI 3.1 and still says `nullable`, which 3.1 dropped for the type "null".
        if not is_map and kept.pop("nullable", False) is True:
            return {"anyOf": [kept, {"type": "null"}]}
        return kept
    return [without_prose(value) for value in node] if isinstance(node, list) else node


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"].rsplit("/", 1)[1]] if isinstance(node.get("$ref"), str) else []
        return own + [name for value in node.values() for name in references(value)]
    return [name for value in node for name in references(value)] if isinstance(node, list) else []


def main(source: str) -> None:
    whole = yaml.load(Path(source).read_text(), Loader=yaml.CSafeLoader)
    paths = {}
    for path, method in OPERATIONS.items():
        operation = whole["paths"][path][method]
        kept = {"operationId": operation["operationId"], "responses": {"200": operation["responses"]["200"]}}
        if "requestBody" in operation:
            kept["requestBody"] = operation["requestBody"]
        paths[path] = {method: without_prose(kept)}
    schemas: dict[str, Any] = {}
    wanted = [*references(paths), *ALSO]
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = without_prose(whole["components"]["schemas"][name])
            wanted += references(schemas[name])
    trimmed = {
        "openapi": whole["openapi"],
        "info": {
            "title": "OpenAI API (trimmed: only the operations collegium uses, without prose)",
            "version": whole["info"]["version"],
            "license": whole["info"]["license"],
            "x-source": f"https://github.com/openai/openai-openapi at {COMMIT}",
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items()))},
    }
    target = Path(__file__).parent / "openai" / "openapi.json"
    target.write_text(json.dumps(trimmed, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
