"""JSON schemas of Kubernetes' own kinds, for kubeconform, made from the OpenAPI document of the Kubernetes Go module.

The module is the one that the cluster's programs are built from, so the schemas are of the same version, and nothing
is downloaded that the build did not need.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import binaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Schema = dict[str, Any]
_GVK = "x-kubernetes-group-version-kind"
# The API server takes both; OpenAPI v2 cannot say so and calls them strings.
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# Any JSON value, or one of two types: again more than OpenAPI v2 can say.
_ANYTHING = (
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
)


def openapi_document() -> Schema:
    """Return the OpenAPI document of the Kubernetes version that devcluster builds."""
    module = binaries.module_of("kubectl")
    asked = subprocess.run(
        ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{module.version}"],
        cwd=module.folder,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    folder = Path(json.loads(asked.stdout)["Dir"])
    document: Schema = json.loads((folder / "api" / "openapi-spec" / "swagger.json").read_text())
    return document


def write_schemas(document: Schema, folder: Path, kinds: Iterable[str]) -> None:
    """Write a strict schema for each of these kinds, in every version that the document has."""
    definitions = {name: _strict(name, schema) for name, schema in document["definitions"].items()}
    wanted = set(kinds)
    for name, schema in document["definitions"].items():
        for gvk in schema.get(_GVK, []):
            if gvk["kind"] in wanted and len(schema[_GVK]) == 1:
                needed = {each: definitions[each] for each in _reachable(name, definitions)}
                content = {"$ref": f"#/definitions/{name}", "definitions": needed}
                _path(folder, gvk["kind"], gvk["group"], gvk["version"]).write_text(json.dumps(content))


def _path(folder: Path, kind: str, group: str, version: str) -> Path:
    """Name the file as kubeconform looks for it: kind-group-version, the group without its domain."""
    parts = [kind.lower(), group.partition(".")[0], version] if group else [kind.lower(), version]
    return folder / ("-".join(parts) + ".json")


def _strict(name: str, schema: Schema) -> Schema:
    if name == _INT_OR_STRING:
        return {"type": ["integer", "string"]}
    if name == _QUANTITY:
        return {"type": ["string", "number"]}
    if name in _ANYTHING:
        return {}
    return _closed({key: value for key, value in schema.items() if key != _GVK})


def _closed(schema: Schema) -> Schema:
    """Refuse properties that the schema does not name, at every depth."""
    closed = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            closed[key] = _closed(schema[key])
    if "properties" in schema:
        closed["properties"] = {name: _closed(each) for name, each in schema["properties"].items()}
        closed.setdefault("additionalProperties", False)
    return closed


def _reachable(start: str, definitions: Schema) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(definitions[name])
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix("#/definitions/")
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)
