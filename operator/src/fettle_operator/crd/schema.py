"""Pydantic models to structural schemas, as apiextensions.k8s.io/v1 accepts them.

The annotations are walked, not pydantic's JSON schema: each type, bound and default is either translated
exactly or refused with the path of its field. A bound that is missing is refused too, because CEL costs and
the size of an object in etcd are estimated from bounds.
"""

import builtins
import datetime as dt
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types
from pydantic import PlainSerializer, Strict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import IntOrString, ListMap, ListSet, Rule, Takes, TransitionRule

__all__ = ["Schema", "SchemaError", "rule_schema", "schema_of", "type_schema"]

Schema = dict[str, Any]

MAX_DESCRIPTION = 400
_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


class SchemaError(Exception):
    """A model says something that a structural schema cannot say."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


def schema_of(model: type[KubeModel], path: str) -> Schema:
    """Return the structural schema of a model, everything inlined."""
    return _object(model, path, ())


def type_schema(annotation: Any, path: str) -> Schema:
    """Return the structural schema of a type alone, without description and default."""
    return _typed(annotation, (), path, ())


def rule_schema(rule: Rule | TransitionRule) -> Schema:
    """Return the x-kubernetes-validations entry of a rule."""
    entry: Schema = {"rule": rule.expression, "message": rule.message}
    if rule.field is not None:
        entry["fieldPath"] = f".{rule.field}"
    return entry


def _object(model: type[KubeModel], path: str, parents: tuple[type, ...]) -> Schema:
    if model in parents:
        raise SchemaError(path, f"{model.__name__} contains itself; a structural schema has no recursion")
    if model.model_config.get("extra") != "forbid":
        raise SchemaError(path, f"{model.__name__} takes unknown fields; a structural schema prunes them")
    schema: Schema = {"type": "object"}
    properties: Schema = {}
    required: list[str] = []
    for info in model.model_fields.values():
        name = str(info.alias)
        field_path = f"{path}.{name}"
        properties[name] = _field(info, field_path, (*parents, model))
        if info.is_required():
            required.append(name)
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    if model.rules:
        schema["x-kubernetes-validations"] = [rule_schema(rule) for rule in model.rules]
    return schema


def _field(info: FieldInfo, path: str, parents: tuple[type, ...]) -> Schema:
    if path.rsplit(".", 1)[-1] == "namespace":
        raise SchemaError(path, "references stay in the object's own namespace; drop the field")
    optional, annotation = _split_optional(info.annotation, path)
    if optional and info.is_required():
        raise SchemaError(path, "may be None but is required; give it the default None")
    if optional and info.default is not None:
        raise SchemaError(path, "may be None but has another default; null is not a value of the API")
    schema = _typed(annotation, tuple(info.metadata), path, parents)
    return {"description": _description(info, path)} | schema | _default(info, annotation, path)


def _description(info: FieldInfo, path: str) -> str:
    if not info.description:
        raise SchemaError(path, "has no description; it becomes `kubectl explain`")
    if len(info.description) > MAX_DESCRIPTION:
        raise SchemaError(path, f"has a description of more than {MAX_DESCRIPTION} characters")
    return info.description


def _default(info: FieldInfo, annotation: Any, path: str) -> Schema:
    if info.default_factory is not None:
        container = get_origin(_bare(annotation)) or _bare(annotation)
        if info.default_factory in {list, dict} and container is info.default_factory:
            return {}  # absent and empty mean the same; nothing is persisted
        if (
            info.default_factory is container
            and isinstance(container, type)
            and issubclass(container, KubeModel)
        ):
            return {"default": {}}  # lets the defaults of the inner fields fire
        raise SchemaError(path, "has a default factory other than list, dict or its own model")
    if info.default is PydanticUndefined or info.default is None:
        return {}
    if not isinstance(info.default, (str, int, float, bool)):
        raise SchemaError(
            path, f"has a default of type {type(info.default).__name__}; only scalars are persisted"
        )
    return {"default": info.default}


def _typed(annotation: Any, outer: tuple[Any, ...], path: str, parents: tuple[type, ...]) -> Schema:
    if get_origin(annotation) is Annotated:
        inner, *own = get_args(annotation)
        return _typed(inner, (*own, *outer), path, parents)
    metadata = tuple(_flat(outer))
    match get_origin(annotation) or annotation:
        case builtins.list:
            schema = _list(annotation, metadata, path, parents)
        case builtins.dict:
            schema = _map(annotation, metadata, path, parents)
        case typing.Literal:
            schema = _enum(get_args(annotation), metadata, path)
        case typing.Union | types.UnionType:
            schema = _union(get_args(annotation), metadata, path)
        case builtins.str | builtins.int | builtins.float | builtins.bool:
            schema = _worded_scalar(annotation, metadata, path)
        case dt.datetime:
            _refuse_leftovers(metadata, path)
            schema = {"type": "string", "format": "date-time"}
        case type() as model if issubclass(model, KubeModel):
            _refuse_leftovers(metadata, path)
            schema = _object(model, path, parents)
        case _:
            raise SchemaError(path, f"has type {_name(annotation)}, which a structural schema cannot say")
    return schema


def _list(annotation: Any, metadata: tuple[Any, ...], path: str, parents: tuple[type, ...]) -> Schema:
    (item,) = get_args(annotation)
    items = _typed(item, (), f"{path}[]", parents)
    schema: Schema = {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
    rest = []
    for marker in metadata:
        if isinstance(marker, ListMap):
            key = next((f for n, f in _fields_of(item) if n == marker.key), None)
            if key is None or not key.is_required():
                raise SchemaError(path, f"is a map by {marker.key}, which is no required field of its items")
            schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [str(key.alias)]}
        elif isinstance(marker, ListSet):
            if items["type"] not in _SCALARS.values():
                raise SchemaError(path, "is a set of something other than scalars")
            schema["x-kubernetes-list-type"] = "set"
        else:
            rest.append(marker)
    return schema | _sizes(rest, "Items", path)


def _map(annotation: Any, metadata: tuple[Any, ...], path: str, parents: tuple[type, ...]) -> Schema:
    key, value = get_args(annotation)
    if key is not str:
        raise SchemaError(path, "has bounded or other keys than str; keys are bounded by a rule")
    schema: Schema = {"type": "object", "additionalProperties": _typed(value, (), f"{path}.*", parents)}
    return schema | _sizes(metadata, "Properties", path)


def _sizes(metadata: Any, what: str, path: str) -> Schema:
    bounds: Schema = {}
    rest = []
    for marker in metadata:
        if isinstance(marker, annotated_types.MinLen):
            if marker.min_length > 0:
                bounds[f"min{what}"] = marker.min_length
        elif isinstance(marker, annotated_types.MaxLen):
            bounds[f"max{what}"] = marker.max_length
        else:
            rest.append(marker)
    _refuse_leftovers(rest, path)
    if f"max{what}" not in bounds:
        raise SchemaError(path, "has no max_length; every list and map is bounded")
    return bounds


def _enum(values: tuple[Any, ...], metadata: tuple[Any, ...], path: str) -> Schema:
    _refuse_leftovers(metadata, path)
    kinds = {type(value) for value in values}
    if kinds not in ({str}, {int}):
        raise SchemaError(path, "is a Literal of mixed types or of something other than words and numbers")
    return {"type": _SCALARS[kinds.pop()], "enum": list(values)}


def _union(members: tuple[Any, ...], metadata: tuple[Any, ...], path: str) -> Schema:
    """Translate `int | str`, the one union there is; each member brings its own bounds."""
    _refuse_leftovers([marker for marker in metadata if not isinstance(marker, IntOrString)], path)
    by_type = {(schema := _union_member(member, path)).pop("type"): schema for member in members}
    if len(members) != 2 or set(by_type) != {"integer", "string"} or not metadata:
        raise SchemaError(
            path, f"is a union of {_name(members)}; only int | str, marked IntOrString, can be said"
        )
    text = by_type["string"]
    if "pattern" not in text:
        raise SchemaError(path, "takes any text beside the numbers; give the text a pattern")
    number = by_type["integer"]
    within = f"type(self) == int && self >= {number['minimum']} && self <= {number['maximum']}"
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        **number,
        **text,
        **_in_words(f"type(self) == string ? {_matches(text)} : {within}", next(iter(metadata)).takes),
    }


def _union_member(member: Any, path: str) -> Schema:
    """Return the schema of one half of `int | str`; IntOrString has the words for both."""
    bare = _bare(member)
    metadata = tuple(_flat(get_args(member)[1:])) if bare is not member else ()
    if get_origin(bare) is typing.Literal:
        schema = _enum(get_args(bare), metadata, path)
        words = "|".join(re.escape(str(word)) for word in schema.pop("enum"))
        return schema | {"pattern": f"^({words})$", "maxLength": len(words)}
    if bare not in _SCALARS:
        raise SchemaError(path, f"is a union with {_name(bare)}; only int | str can be said")
    return _scalar(bare, [marker for marker in metadata if not isinstance(marker, Takes)], path)


def _worded_scalar(kind: type, metadata: tuple[Any, ...], path: str) -> Schema:
    words = [marker.words for marker in metadata if isinstance(marker, Takes)]
    schema = _scalar(kind, [marker for marker in metadata if not isinstance(marker, Takes)], path)
    if ("pattern" in schema) != bool(words):
        raise SchemaError(path, "has a pattern without Takes, or Takes without a pattern")
    return schema | (_in_words(_matches(schema), words[0]) if words else {})


def _scalar(kind: type, metadata: Iterable[Any], path: str) -> Schema:
    schema: Schema = {"type": _SCALARS[kind]}
    rest = []
    for marker in metadata:
        bound = (
            _number_bound(marker)
            if kind in {int, float}
            else _string_bound(marker, path)
            if kind is str
            else None
        )
        if bound is None:
            rest.append(marker)
        else:
            schema |= bound
    _refuse_leftovers(rest, path)
    if kind is int and not {"minimum", "maximum"} <= schema.keys():
        raise SchemaError(path, "has no ge and le; every integer is bounded")
    if kind is str and "maxLength" not in schema:
        raise SchemaError(path, "has no max_length; every string is bounded")
    return schema


def _in_words(rule: str, words: str) -> Schema:
    """Say with a rule what a pattern takes: the refusal of the pattern itself only quotes it.

    The pattern stays, for editors and for checks that run without a server.
    """
    return {"x-kubernetes-validations": [{"rule": rule, "message": f"must be {words}"}]}


def _matches(schema: Schema) -> str:
    return f'self.matches(r"{schema["pattern"]}")'


def _number_bound(marker: Any) -> Schema | None:
    match marker:
        case annotated_types.Ge(ge=value):
            return {"minimum": value}
        case annotated_types.Le(le=value):
            return {"maximum": value}
        case annotated_types.Gt(gt=value):
            return {"minimum": value, "exclusiveMinimum": True}
        case annotated_types.Lt(lt=value):
            return {"maximum": value, "exclusiveMaximum": True}
    return None


def _string_bound(marker: Any, path: str) -> Schema | None:
    match marker:
        case annotated_types.MinLen(min_length=value):
            return {"minLength": value} if value else {}
        case annotated_types.MaxLen(max_length=value):
            return {"maxLength": value}
    pattern = getattr(marker, "pattern", None)
    if pattern is None:
        return None
    if set(vars(marker)) != {"pattern"}:
        raise SchemaError(path, "mixes pattern with a bound that a structural schema cannot say")
    # pydantic compiled it with an engine that, as RE2, has neither look-around nor back-references.
    return {"pattern": pattern}


def _flat(metadata: tuple[Any, ...]) -> Any:
    """Open the Field(...) objects that stand inside Annotated, and drop what does not concern the schema."""
    for marker in metadata:
        if isinstance(marker, FieldInfo):
            yield from _flat(tuple(marker.metadata))
        elif not isinstance(marker, (PlainSerializer, Strict)):
            yield marker


def _refuse_leftovers(metadata: Any, path: str) -> None:
    leftovers = list(metadata)
    if leftovers:
        raise SchemaError(path, f"carries {leftovers[0]!r}, which a structural schema cannot say")


def _split_optional(annotation: Any, path: str) -> tuple[bool, Any]:
    if get_origin(annotation) not in {Union, types.UnionType}:
        return False, annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) == len(get_args(annotation)):
        return False, annotation
    if not members:
        raise SchemaError(path, "is always None")
    return True, members[0] if len(members) == 1 else Union[tuple(members)]  # noqa: UP007 - built at run time


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _fields_of(item: Any) -> list[tuple[str, FieldInfo]]:
    bare = _bare(item)
    is_model = isinstance(bare, type) and issubclass(bare, KubeModel)
    return list(bare.model_fields.items()) if is_model else []


def _name(annotation: Any) -> str:
    if isinstance(annotation, tuple):
        return " | ".join(map(_name, annotation))
    return getattr(annotation, "__name__", None) or str(annotation)
