"""Models to CustomResourceDefinitions, strictly: what a schema cannot say is refused, never weakened."""

from fettle_operator.crd.definition import custom_resource_definition
from fettle_operator.crd.schema import SchemaError, schema_of

__all__ = ["SchemaError", "custom_resource_definition", "schema_of"]
