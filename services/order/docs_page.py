"""The page /docs: the HTTP interface in words and examples, drawn here from the OpenAPI description.

One HTML document without scripts, fonts or anything else from elsewhere, so it works behind any firewall.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, RedirectResponse

Schema = Mapping[str, Any]

_SAMPLES: dict[str, Any] = {
    "integer": 2,
    "uuid": "019a0c3e-5b00-7000-8000-000000000001",
    "date-time": "2026-11-23T09:00:00Z",
}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --dim: #5a6675; --line: #d9dfe6;
  --paper: #fff; --card: #f7f9fb; --get: #0b6bcb; --post: #18794e; --put: #8a5000 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --dim: #9aa7b6; --line: #303a47;
  --paper: #12171e; --card: #1a212b; --get: #6cb2ff; --post: #5ed39b; --put: #ecb35c } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 58rem; padding: 2.5rem 1.25rem 5rem;
  color: var(--ink); background: var(--paper); font: 1rem/1.6 system-ui, sans-serif }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.25rem }
h3 { font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; color: var(--dim);
  margin: 1.4rem 0 .4rem }
a { color: var(--get) }
:focus-visible { outline: 3px solid var(--get); outline-offset: 2px }
.lead { color: var(--dim); max-width: 44rem }
details { border: 1px solid var(--line); border-radius: .6rem; margin: .6rem 0; background: var(--card) }
summary { cursor: pointer; padding: .75rem 1rem; display: flex; flex-wrap: wrap; gap: .4rem .9rem;
  align-items: baseline }
summary .what { color: var(--dim); margin-left: auto }
.body { padding: 0 1.1rem 1.1rem; border-top: 1px solid var(--line) }
.verb { font: 700 .85rem ui-monospace, monospace; min-width: 3.2rem }
.get { color: var(--get) } .post { color: var(--post) } .put { color: var(--put) }
code, pre { font: .88rem/1.5 ui-monospace, monospace }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--paper); margin: .3rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0;
  border-bottom: 1px solid var(--line) }
th { font-size: .8rem; color: var(--dim) }
.must { color: var(--dim); font-size: .85rem }
"""


def install(app: FastAPI, problem: Schema) -> None:
    """Serve /docs and /openapi.json, which know the schema `problem` that every error follows."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            described.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problem
            app.openapi_schema = described
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    headers = {"Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{style}'"}

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        address = str(request.base_url).rstrip("/")
        return HTMLResponse(page(app.openapi(), address), headers=headers)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")


def page(description: Schema, address: str) -> str:
    """The OpenAPI `description` as an HTML document, with examples for the service at `address`."""
    info = description["info"]
    schemas = description.get("components", {}).get("schemas", {})
    by_tag: dict[str, list[str]] = {}
    for path, operations in description["paths"].items():
        for verb, operation in operations.items():
            tag = operation.get("tags", ["Other"])[0]
            by_tag.setdefault(tag, []).append("".join(_operation(path, verb, operation, schemas, address)))
    sections = "".join(
        f"<section><h2>{escape(tag)}</h2>{''.join(operations)}</section>" for tag, operations in by_tag.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{escape(info['title'])}</h1>"
        f'<p class="lead">{escape(info.get("description", ""))} For programs: '
        '<a href="/openapi.json">openapi.json</a>.</p></header>'
        f"<main>{sections}<section><h2>When something is wrong</h2>"
        "<p>Every error is an <code>application/problem+json</code> (RFC 9457).</p>"
        f"{_fields_table(schemas.get('Problem', {}), schemas)}</section></main></body></html>"
    )


def _operation(path: str, verb: str, operation: Schema, schemas: Schema, address: str) -> Iterator[str]:
    yield (
        f'<details id="{escape(operation["operationId"])}"><summary>'
        f'<span class="verb {verb}">{verb.upper()}</span><code>{escape(path)}</code>'
        f'<span class="what">{escape(operation.get("summary", ""))}</span></summary><div class="body">'
    )
    if text := operation.get("description"):
        yield f"<p>{escape(text)}</p>"
    if parameters := operation.get("parameters"):
        yield "<h3>Parameters</h3>" + _table(
            schemas,
            ((each["name"], each["in"], each["schema"], each.get("required", False), each) for each in parameters),
        )
    body = _json_schema(operation.get("requestBody", {}))
    if body is not None:
        yield f"<h3>Body</h3>{_fields_table(body, schemas)}"
    yield f"<h3>Try it</h3><pre>{escape(_curl(address + path, verb, body, schemas))}</pre>"
    yield '<h3>Answers</h3><div class="scroll"><table><thead><tr><th scope="col">Status</th>'
    yield '<th scope="col">Meaning</th></tr></thead><tbody>'
    for status, answer in sorted(operation["responses"].items()):
        yield f"<tr><td><code>{status}</code></td><td>{escape(answer['description'])}</td></tr>"
    yield "</tbody></table></div>"
    for status, answer in operation["responses"].items():
        schema = _json_schema(answer)
        if schema is not None:
            yield f"<h3>The answer {status}</h3><pre>{escape(_pretty(_example(schema, schemas)))}</pre>"
    yield "</div></details>"


def _fields_table(schema: Schema, schemas: Schema) -> str:
    return _table(schemas, _fields(schema, schemas, ""))


def _fields(schema: Schema, schemas: Schema, prefix: str) -> Iterator[tuple[str, str, Schema, bool, Schema]]:
    resolved = _resolve(schema, schemas)
    required = resolved.get("required", ())
    for name, field in resolved.get("properties", {}).items():
        yield f"{prefix}{name}", "", field, name in required, field
        items = _resolve(field.get("items", {}), schemas)
        if "properties" in items:
            yield from _fields(items, schemas, f"{prefix}{name}[].")


def _table(schemas: Schema, rows: Iterator[tuple[str, str, Schema, bool, Schema]]) -> str:
    drawn = "".join(
        f'<tr><td><code>{escape(name)}</code> <span class="must">{"required" if must else ""}</span></td>'
        f"<td>{escape(' '.join((place, _type_in_words(schema, schemas))).strip())}</td>"
        f"<td>{escape(about.get('description', ''))}</td></tr>"
        for name, place, schema, must, about in rows
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">Name</th><th scope="col">Type</th>'
        f'<th scope="col">Meaning</th></tr></thead><tbody>{drawn}</tbody></table></div>'
    )


def _type_in_words(schema: Schema, schemas: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_in_words(each, schemas) for each in schema["anyOf"] if each != {"type": "null"})
    schema = _resolve(schema, schemas)
    if "enum" in schema:
        return " or ".join(schema["enum"])
    words = str(schema.get("format", schema.get("type", "any")))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        words += f", {low:.0f} to {high:.0f}"
    elif low is not None:
        words += f", at least {low:.0f}"
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']} characters"
    return words


def _curl(url: str, verb: str, body: Schema | None, schemas: Schema) -> str:
    words = "curl -s" if verb == "get" else f"curl -s -X {verb.upper()}"
    command = f"{words} {url}"
    if body is None:
        return command
    sample = json.dumps(_example(body, schemas))
    return f"{command} \\\n  -H 'Content-Type: application/json' \\\n  -d '{sample}'"


def _example(schema: Schema, schemas: Schema) -> Any:
    resolved = _resolve(schema, schemas)
    if "examples" in resolved:
        return resolved["examples"][0]
    if "enum" in resolved:
        return resolved["enum"][0]
    if "anyOf" in resolved:
        kinds = resolved["anyOf"]
        return None if {"type": "null"} in kinds else _example(kinds[0], schemas)
    kind = resolved.get("format", resolved.get("type", ""))
    if kind == "object":
        return {name: _example(each, schemas) for name, each in resolved.get("properties", {}).items()}
    if kind == "array":
        return [_example(resolved["items"], schemas)]
    return resolved.get("minimum", _SAMPLES.get(kind, "text"))


def _resolve(schema: Schema, schemas: Schema) -> Schema:
    if "$ref" in schema:
        found: Schema = schemas[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _json_schema(content: Schema) -> Schema | None:
    found: Schema | None = content.get("content", {}).get("application/json", {}).get("schema")
    return found


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2)
