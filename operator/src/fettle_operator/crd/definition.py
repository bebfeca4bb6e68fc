"""A resource model to a CustomResourceDefinition manifest."""

from typing import Any

from fettle_operator.api.base import Resource, ResourceName
from fettle_operator.api.markers import Column, ResourceInfo
from fettle_operator.crd.schema import Schema, SchemaError, rule_schema, schema_of, type_schema

__all__ = ["custom_resource_definition"]


def custom_resource_definition(model: type[Resource]) -> dict[str, Any]:
    """Return the CRD of a kind, with all that the model and its ResourceInfo say."""
    info = model.info
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{info.group}"},
        "spec": {
            "group": info.group,
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.singular,
                "shortNames": list(info.short_names),
                "categories": list(info.categories),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": info.version,
                    "served": True,
                    "storage": True,
                    "subresources": _subresources(info),
                    "additionalPrinterColumns": [_column(column) for column in info.columns],
                    "schema": {"openAPIV3Schema": _root(model)},
                }
            ],
        },
    }


def _root(model: type[Resource]) -> Schema:
    fields = model.model_fields
    spec, status = fields["spec"].annotation, fields["status"].annotation
    if not (isinstance(spec, type) and isinstance(status, type)):
        raise SchemaError(model.__name__, "spec and status are plain models")
    rules = [*map(rule_schema, model.rules), *map(rule_schema, model.transition_rules)]
    return {
        "description": (model.__doc__ or "").strip(),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": _without_rules(type_schema(ResourceName, "metadata.name"))},
            },
            "spec": {"description": fields["spec"].description} | schema_of(spec, "spec"),
            # Never empty: an object that nobody has looked at must not pass for one that is done (kstatus).
            "status": {"description": fields["status"].description}
            | schema_of(status, "status")
            | {"default": {"observedGeneration": -1}},
        },
    } | ({"x-kubernetes-validations": rules} if rules else {})


def _without_rules(schema: Schema) -> Schema:
    """Take the rules away: under metadata a definition may only bound names."""
    return {key: value for key, value in schema.items() if key != "x-kubernetes-validations"}


def _subresources(info: ResourceInfo) -> dict[str, Any]:
    if info.scale is None:
        return {"status": {}}
    return {
        "status": {},
        "scale": {
            "specReplicasPath": info.scale.spec_path,
            "statusReplicasPath": info.scale.status_path,
            "labelSelectorPath": info.scale.selector_path,
        },
    }


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "jsonPath": column.path, "type": column.type}
    if column.wide:
        shown["priority"] = 1
    return shown
