"""The table of the chart's values in the installation guide, made from the schema and the defaults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from helm_chart import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]
START = "<!-- values: made from values.schema.json and values.yaml -->\n"
END = "<!-- end of values -->\n"
_NO_DEFAULT = object()
_HEAD = "| value | default | meaning |\n|---|---|---|\n"
# Named by the administrator, not by the chart: told once, without defaults.
_BY_NAME = "NAME"


class UndocumentedValueError(Exception):
    """A value of the schema has no description."""


def table() -> str:
    """Return the whole table."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    return table_of(schema, defaults)


def table_of(schema: Schema, defaults: Mapping[str, Any]) -> str:
    """Return the table of a schema, or raise when a value has no description."""
    return _HEAD + "".join(_rows(schema, schema, defaults, ()))


def documented() -> set[str]:
    """Return the path of every value that the schema knows, nested ones included."""
    lines = table().removeprefix(_HEAD).splitlines()
    return {line.split("`")[1] for line in lines}


def _rows(root: Schema, schema: Schema, default: Any, path: tuple[str, ...]) -> Iterator[str]:
    resolved = _resolve(root, schema)
    inner = _inner(root, resolved)
    described = "description" in resolved
    if path and (described or not inner):
        yield _row(path, resolved, default if not inner else _NO_DEFAULT)
    for name, child in inner.items():
        below = default.get(name, _NO_DEFAULT) if isinstance(default, dict) else _NO_DEFAULT
        yield from _rows(root, child, below, (*path, name))


def _inner(root: Schema, schema: Schema) -> Schema:
    """Return the values within a value that have a meaning of their own."""
    by_pattern = list(schema.get("patternProperties", {}).values())
    named: Schema = schema.get("properties") or ({_BY_NAME: by_pattern[0]} if by_pattern else {})
    is_told = any(_told(root, child) for child in named.values())
    return named if is_told else {}


def _told(root: Schema, schema: Schema) -> bool:
    resolved = _resolve(root, schema)
    return "description" in resolved or bool(_inner(root, resolved))


def _row(path: tuple[str, ...], schema: Schema, default: Any) -> str:
    name = ".".join(path)
    if "description" not in schema:
        raise UndocumentedValueError(f"values.schema.json: {name} has no description")
    shown = "" if default is _NO_DEFAULT else f"`{json.dumps(default)}`"
    return f"| `{name}` | {shown} | {schema['description']} |\n"


def _resolve(root: Schema, schema: Schema) -> Schema:
    """Follow a reference; what stands beside it wins."""
    if "$ref" not in schema:
        return schema
    target: Schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
