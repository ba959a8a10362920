"""The service's OpenAPI description as a page for people. It asks no other host for anything."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2rem; } code, pre { background: #8882; border-radius: 4px; padding: .1em .3em; }
pre { padding: .8em; overflow-x: auto; } td, th { text-align: left; padding: .2em 1em .2em 0; vertical-align: top; }
"""
EXAMPLES = {
    "/generate": """curl -o a.png -H 'Content-Type: application/json' -d '{"class": 207, "seed": 1}' %s/generate""",
    "/invert": "curl -o again.png --data-binary @photo.jpg -H 'Content-Type: image/jpeg' '%s/invert?class=church'",
    "/upscale": "curl -o large.png --data-binary @photo.jpg -H 'Content-Type: image/jpeg' %s/upscale",
}


def handbook(openapi: Mapping[str, Any], address: str = "http://127.0.0.1:8000") -> str:
    """An HTML page: each path with its parameters, its answers and an example."""
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(openapi['info']['title'])}: the service"
        f"</title><style>{STYLE}</style><h1>{escape(openapi['info']['title'])}</h1>"
        f"<p>{escape(openapi['info'].get('summary', ''))} For programs: <a href='openapi.json'>openapi.json</a>.</p>"
    ]
    for path, methods in openapi["paths"].items():
        for method, about in methods.items():
            parts.append(_route(openapi, path, method, about))
            if path in EXAMPLES:
                parts.append(f"<pre>{escape(EXAMPLES[path] % address)}</pre>")
    return "".join(parts) + "</html>\n"


def _route(openapi: Mapping[str, Any], path: str, method: str, about: Mapping[str, Any]) -> str:
    text = f"<h2><code>{method.upper()} {escape(path)}</code> {escape(about.get('summary', ''))}</h2>"
    text += f"<p>{escape(about.get('description', ''))}</p>"
    rows = [(p["name"], p.get("description", ""), p["schema"]) for p in about.get("parameters", ())]
    for kind, body in about.get("requestBody", {}).get("content", {}).items():
        if "$ref" in body["schema"]:
            model = openapi["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
            rows += [(name, field.get("description", ""), field) for name, field in model["properties"].items()]
        else:
            rows.append(("(body)", kind, {}))
    if rows:
        cells = "".join(
            f"<tr><td><code>{escape(name)}</code><td>{escape(_type(schema))}<td>{escape(said)}"
            for name, said, schema in rows
        )
        text += f"<table>{cells}</table>"
    answers = ", ".join(f"{code} {escape(a.get('description', ''))}" for code, a in about["responses"].items())
    return text + f"<p>Answers: {answers}</p>"


def _type(schema: Mapping[str, Any]) -> str:
    """`integer, 0 to 7` and the like."""
    kinds = [schema, *schema.get("anyOf", ())]
    names = [str(k["type"]) for k in kinds if k.get("type") not in (None, "null")]
    least = (("from", "minimum"), ("above", "exclusiveMinimum"))
    ends = [f"{word} {k[key]:.12g}" for k in kinds for word, key in least if key in k]
    ends += [f"to {k['maximum']:.12g}" for k in kinds if "maximum" in k]
    values = [str(v) for k in kinds for v in k.get("enum", ())]
    default = [f"default {schema['default']}"] if schema.get("default") is not None else []
    return ", ".join(filter(None, [" or ".join(names), " ".join(ends), " | ".join(values), *default]))
