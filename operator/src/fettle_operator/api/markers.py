"""What a model says about its place in the API beyond types and bounds.

A rule that spans several fields is written once, as a `Rule`: its CEL expression runs in the API server, its
Python twin runs in the model, and one table of tests holds the two together.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = [
    "Column",
    "IntOrString",
    "ListMap",
    "ListSet",
    "ResourceInfo",
    "Rule",
    "Scale",
    "Takes",
    "TransitionRule",
    "at_most_one_of",
    "exactly_one_of",
    "keys_match",
]


@dataclass(frozen=True)
class Rule:
    """A rule over one object: the CEL expression and the Python predicate say the same."""

    expression: str
    """CEL, with `self` as the object the rule is written on."""
    message: str
    """What is wrong and what to do; names the field."""
    holds: Callable[[Any], bool]
    """The twin of `expression`, given the validated model."""
    field: str | None = None
    """The camelCase path of the field to blame, relative to the object; None blames the object."""


@dataclass(frozen=True)
class TransitionRule:
    """A rule over an update: the CEL expression compares `self` with `oldSelf`."""

    expression: str
    message: str
    holds: Callable[[Any, Any], bool]
    """The twin of `expression`, given the old and the new model."""
    field: str | None = None


def exactly_one_of(*names: str) -> Rule:
    """Demand that exactly one of the optional fields (camelCase) is set."""
    return Rule(
        expression=f"[{_presence(names)}].exists_one(set, set)",
        message=f"set exactly one of {_listed(names)}",
        holds=lambda model: _count_set(model, names) == 1,
    )


def at_most_one_of(*names: str) -> Rule:
    """Demand that no two of the optional fields (camelCase) are set."""
    return Rule(
        expression=f"[{_presence(names)}].filter(set, set).size() <= 1",
        message=f"set at most one of {_listed(names)}",
        holds=lambda model: _count_set(model, names) <= 1,
    )


def keys_match(field: str, attribute: str, pattern: str, most: int, takes: str) -> Rule:
    """Demand that the keys of an optional map have at most `most` characters and match an RE2 pattern."""
    compiled = re.compile(pattern)
    return Rule(
        expression=f"!has(self.{field}) || self.{field}.all(key, key.size() <= {most} && key.matches('{pattern}'))",
        message=f"each key of {field} must be {takes}",
        holds=lambda model: all(
            len(key) <= most and compiled.fullmatch(key) for key in getattr(model, attribute) or ()
        ),
        field=field,
    )


def _presence(names: tuple[str, ...]) -> str:
    return ", ".join(f"has(self.{name})" for name in names)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def _count_set(model: Any, names: tuple[str, ...]) -> int:
    present = {
        info.alias for name, info in type(model).model_fields.items() if getattr(model, name) is not None
    }
    return sum(name in present for name in names)


@dataclass(frozen=True)
class ListMap:
    """Marks a list whose items are told apart by one field, as server-side apply merges them."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._refuse_duplicates, handler(source))

    def _refuse_duplicates(self, items: list[Any]) -> list[Any]:
        return _distinct(items, [getattr(item, self.key) for item in items])


@dataclass(frozen=True)
class ListSet:
    """Marks a list of scalars in which no value stands twice."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._refuse_duplicates, handler(source))

    @staticmethod
    def _refuse_duplicates(items: list[Any]) -> list[Any]:
        return _distinct(items, items)


def _distinct(items: list[Any], identities: list[Any]) -> list[Any]:
    for index, identity in enumerate(identities):
        if identity in identities[:index]:
            raise PydanticCustomError(
                "duplicate", "{value} is given twice", {"value": repr(identity), "index": index}
            )
    return items


@dataclass(frozen=True)
class Takes:
    """Says in words what a pattern takes, for the person who reads the refusal."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._in_words, handler(source))

    def _in_words(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            if error.errors()[0]["type"] != "string_pattern_mismatch":
                raise
            raise PydanticCustomError("pattern", "must be {words}", {"words": self.words}) from error


@dataclass(frozen=True)
class IntOrString:
    """Marks `int | str`, the one union that the API knows, and says in words what it takes."""

    takes: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._one_sentence, handler(source))

    def _one_sentence(self, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise PydanticCustomError("int_or_string", "must be {takes}", {"takes": self.takes}) from error


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`."""

    name: str
    path: str
    """A JSONPath with its leading dot."""
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    wide: bool = False
    """Shown with `-o wide` only."""


@dataclass(frozen=True)
class Scale:
    """The scale subresource, for `kubectl scale` and autoscalers."""

    spec_path: str
    status_path: str
    selector_path: str


@dataclass(frozen=True)
class ResourceInfo:
    """How a kind is named and shown."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    scale: Scale | None = None
    group: str = "fettle.dev"
    version: str = "v1alpha1"
    categories: tuple[str, ...] = field(default=("fettle",))
