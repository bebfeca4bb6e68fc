"""Rows made from the schema itself: every leaf with values at, inside and outside its bounds."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from fettle_operator.api.base import KubeModel
from fettle_operator.api.kinds import KINDS
from fettle_operator.crd.schema import schema_of
from spec_table.rows import REMOVE, Row, changed, value_at
from spec_table.samples import FULL_SPECS

_STRINGS = {
    "empty": "",
    "one letter": "a",
    "capitals": "UPPER",
    "blank": "a b",
    "accent": "modèle",
    "right to left": "a\u202eb",
    "line break": "a\nb",
    "trailing line break": "a\n",
    "NUL": "a\x00b",
    "parent folder": "../secret",
    "parent folder inside": "a/../b",
    "absolute path": "/etc/passwd",
    "escaped slash": "a%2Fb",
    "backslash": "a\\b",
    "shell": "$(id)",
    "trailing dash": "a-",
    "leading dot": ".a",
    "two dots": "a..b",
    "digits": "0",
    "file address": "file:///etc/passwd",
    "address with a user": "http://user@host/x",
    "padded zero": "007",
    "negative": "-1",
    "huge": "1e30",
    "unknown unit": "1Zi",
    "percent above": "101%",
    "minutes": "90m",
}


class Probe(NamedTuple):
    """A value to try at a place of the schema."""

    what: str
    value: Any
    accepted: bool | None
    """None where only agreement is asked for."""
    inside: str = ""
    """Where inside the value a refusal points."""


def leaves_of(kind: str) -> dict[str, dict[str, Any]]:
    """Return path to schema for every field of a kind's spec, lists and objects included."""
    return dict(_walk(_spec_schema(kind), ""))


def generated_rows() -> Iterator[Row]:
    """Yield the rows of all kinds; a type that stands in many places meets the odd strings in one of them."""
    seen: set[str] = set()
    for kind in FULL_SPECS:
        schema = _spec_schema(kind)
        for number, spec in enumerate(FULL_SPECS[kind]):
            yield Row(f"full spec {number}", kind, spec, accepted=True)
        for pattern, node in _walk(schema, ""):
            spec, path = _example_of(kind, pattern)
            known = repr({key: node[key] for key in node if key not in {"description", "default"}})
            fresh = known not in seen
            seen.add(known)
            for probe in _values(node, value_at(spec, path), fresh):
                yield _row(kind, spec, path, probe)
            for name in node.get("required", ()):
                yield _row(kind, spec, f"{path}.{name}", Probe("missing", REMOVE, accepted=False))
            if node.get("type") == "object" and "additionalProperties" not in node:
                yield _row(kind, spec, f"{path}.surprise", Probe("unknown field", 1, accepted=False))
            # A null field counts as one that is left out; a null item of a list does not.
            yield _row(
                kind, spec, path, Probe("null", None, accepted=False if pattern.endswith("[]") else None)
            )


def _row(kind: str, spec: dict[str, Any], path: str, probe: Probe) -> Row:
    return Row(
        f"{path}: {probe.what}",
        kind,
        changed(spec, path, probe.value),
        probe.accepted,
        blames=f"spec.{path}{probe.inside}",
    )


def _spec_schema(kind: str) -> dict[str, Any]:
    (model,) = (model for model in KINDS if model.info.kind == kind)
    spec = model.model_fields["spec"].annotation
    assert isinstance(spec, type)
    assert issubclass(spec, KubeModel)
    return schema_of(spec, "spec")


def _walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, node in schema.get("properties", {}).items():
        inner = f"{path}.{name}".removeprefix(".")
        yield inner, node
        yield from _walk(node, inner)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield path + suffix, schema[key]
            yield from _walk(schema[key], path + suffix)


def _example_of(kind: str, pattern: str) -> tuple[dict[str, Any], str]:
    """Return the first full spec that has a value at the place, and the place in it."""
    for spec in FULL_SPECS[kind]:
        for path in _places(spec, pattern.replace("[]", ".[]").split("."), ""):
            return spec, path
    raise LookupError(f"no full spec of {kind} has a value at {pattern}; add one to spec_table.samples")


def _places(value: Any, parts: list[str], path: str) -> Iterator[str]:
    if not parts:
        yield path
        return
    head, *rest = parts
    if head == "[]":
        for index, item in enumerate(value):
            yield from _places(item, rest, f"{path}[{index}]")
    elif head == "*":
        for key, item in value.items():
            yield from _places(item, rest, f"{path}.{key}")
    elif head in value:
        yield from _places(value[head], rest, f"{path}.{head}".removeprefix("."))


def _values(node: dict[str, Any], present: Any, thorough: bool) -> Iterator[Probe]:
    if "x-kubernetes-int-or-string" in node:
        yield from _numbers(node)
        yield from _strings(node, thorough)
        yield Probe("a list", ["x"], accepted=False)
        return
    match node["type"]:
        case "integer" | "number":
            yield from _numbers(node)
            yield Probe("text", "text", accepted=False)
            yield Probe("a number as text", "1", accepted=False)
        case "string":
            yield from _strings(node, thorough)
            yield Probe("a number", 7, accepted=False)
            yield Probe("a truth value", True, accepted=False)
        case "boolean":
            yield Probe("true", True, accepted=None)
            yield Probe("false", False, accepted=None)
            yield Probe("text", "true", accepted=False)
            yield Probe("a number", 1, accepted=False)
        case "array":
            yield from _lists(node, present)
        case "object":
            yield Probe("text", "text", accepted=False)
            yield Probe("a list", [], accepted=False)
            yield Probe("empty", {}, accepted=None)
            if "additionalProperties" in node:
                (value,) = present.values()
                most = node["maxProperties"]
                yield Probe("at most", {f"k{index}": value for index in range(most)}, accepted=True)
                yield Probe("too many", {f"k{index}": value for index in range(most + 1)}, accepted=False)


def _numbers(node: dict[str, Any]) -> Iterator[Probe]:
    for what, bound, outwards, is_open in (
        ("lowest", node.get("minimum"), -1, node.get("exclusiveMinimum", False)),
        ("highest", node.get("maximum"), 1, node.get("exclusiveMaximum", False)),
    ):
        if bound is not None:
            yield Probe(what, bound, accepted=False if is_open else None)
            yield Probe(f"beyond the {what}", bound + outwards, accepted=False)
    if node.get("type") != "number":
        yield Probe("a fraction", 1.5, accepted=False)
        yield Probe("beyond 64 bit", 2**64, accepted=False)
    yield Probe("a truth value", True, accepted=False)


def _strings(node: dict[str, Any], thorough: bool) -> Iterator[Probe]:
    if "enum" in node:
        yield from (Probe(f"the word {word}", word, accepted=None) for word in node["enum"])
        yield Probe("another word", "surprise", accepted=False)
        yield Probe("no word", "", accepted=False)
        return
    yield Probe("at most as long", "a" * node["maxLength"], accepted=None)
    yield Probe("too long", "a" * (node["maxLength"] + 1), accepted=False)
    if thorough:
        yield from (Probe(what, text, accepted=None) for what, text in _STRINGS.items())


def _lists(node: dict[str, Any], present: list[Any]) -> Iterator[Probe]:
    yield Probe("empty", [], accepted=False if node.get("minItems") else None)
    yield Probe("text", "text", accepted=False)
    yield Probe("an object", {}, accepted=False)
    yield Probe("one too many", _filled(node, present, node["maxItems"] + 1), accepted=False)
    if node["x-kubernetes-list-type"] != "atomic":
        yield Probe("one of them twice", [*present, present[0]], accepted=False, inside=f"[{len(present)}]")


def _filled(node: dict[str, Any], present: list[Any], count: int) -> list[Any]:
    copies = [present[index % len(present)] for index in range(count)]
    if node["x-kubernetes-list-type"] == "map":
        (key,) = node["x-kubernetes-list-map-keys"]
        return [item | {key: f"item-{index}"} for index, item in enumerate(copies)]
    if node["x-kubernetes-list-type"] == "set" and "enum" not in node["items"]:
        return [f"{item}{index}" for index, item in enumerate(copies)]
    return copies
