"""The manual at ``/docs``: the OpenAPI document as one plain page, which loads nothing from anywhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}code,pre{font:14px/1.45 ui-monospace,monospace}"
    "pre{background:#f6f8fa;padding:.75rem;overflow:auto}summary{cursor:pointer;padding:.25rem 0}"
    ".m{display:inline-block;min-width:4.5rem;font-weight:600}details{border-bottom:1px solid #eaeef2}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}}"
)
POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_METHODS: Final = ("get", "post", "put", "patch", "delete")


def page(document: dict[str, Any]) -> str:
    """The page of an OpenAPI document: operations by tag, then schemas."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                one = operations[method]
                by_tag.setdefault((one.get("tags") or ["other"])[0], []).append(_operation(method, path, one))
    parts = [f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in by_tag.items()]
    schemas = document.get("components", {}).get("schemas", {})
    parts.append("<h2 id=schemas>Schemas</h2>" + "".join(_schema(name, schemas[name]) for name in sorted(schemas)))
    info = document["info"]
    return (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>"
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
        f'<p>{escape(info.get("summary") or "")} For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{''.join(parts)}</html>"
    )


def _operation(method: str, path: str, one: dict[str, Any]) -> str:
    asked = "".join(
        f"<li><code>{escape(p['name'])}</code> in {escape(p['in'])}{', required' if p.get('required') else ''}"
        f"{': ' + escape(p['description']) if p.get('description') else ''}</li>"
        for p in one.get("parameters", ())
    )
    body = one.get("requestBody", {}).get("content", {})
    gives = "".join(
        f"<li><b>{escape(str(status))}</b> {escape(found.get('description', ''))}"
        f"{_content(found.get('content', {}))}</li>"
        for status, found in one["responses"].items()
    )
    title = one.get("summary") or ""
    return (
        f"<details><summary><span class=m>{method.upper()}</span> <code>{escape(path)}</code> {escape(title)}</summary>"
        f"<p>{escape(one.get('description') or '')}</p>"
        f"{'<p>Parameters</p><ul>' + asked + '</ul>' if asked else ''}"
        f"{'<p>Body</p>' + _content(body) if body else ''}<p>Answers</p><ul>{gives}</ul></details>"
    )


def _content(content: dict[str, Any]) -> str:
    return "".join(
        f"<details><summary>{escape(kind)}</summary>"
        f"<pre>{_json(found.get('example') or found.get('schema'))}</pre></details>"
        for kind, found in content.items()
    )


def _schema(name: str, schema: object) -> str:
    return (
        f"<details id={escape(name)}><summary><code>{escape(name)}</code></summary><pre>{_json(schema)}</pre></details>"
    )


def _json(value: object) -> str:
    return escape(json.dumps(value, indent=2))
