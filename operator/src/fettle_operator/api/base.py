"""What all resources share: the base model, metadata, conditions, and how an object is read.

The models accept exactly what the API server accepts by the generated schema, no more: types are strict,
unknown fields are refused, a null counts as absent, and each CEL rule runs here too, as its Python twin.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from fettle_operator.api.markers import ListMap, ListSet, ResourceInfo, Rule, Takes, TransitionRule

__all__ = [
    "Condition",
    "Conditions",
    "InvalidObjectError",
    "KubeModel",
    "ObjectMeta",
    "Resource",
    "ResourceName",
    "StatusModel",
    "Timestamp",
    "refused_changes",
    "same",
]


ResourceName = Annotated[
    str,
    Field(max_length=45, min_length=1, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    Takes("a name of lower-case letters, digits and '-' that begins and ends with a letter or digit"),
]
"""The name of one of our own objects: a DNS label, short enough that the names of its children fit into 63."""

CamelCaseWord = Annotated[
    str, Field(max_length=64, pattern=r"^[A-Z][A-Za-z0-9]*$"), Takes("a word in CamelCase")
]


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[
    datetime, Field(strict=False), PlainSerializer(_rfc3339, return_type=str, when_used="json")
]
"""A moment, written as RFC 3339 in UTC with whole seconds, as Kubernetes does."""


class InvalidObjectError(Exception):
    """An object that the schema of this version refuses; `problems` has a sentence for each field."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KubeModel(BaseModel):
    """An object of the API: camelCase outside, snake_case inside, frozen, nothing unknown."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules over several fields of this object."""

    @model_validator(mode="after")
    def _obeys_its_rules(self) -> Self:
        broken = [rule for rule in type(self).rules if not rule.holds(self)]
        if broken:
            raise PydanticCustomError(
                "rule",
                "{text}",
                {
                    "text": "; ".join(rule.message for rule in broken),
                    "broken": tuple((rule.field, rule.message) for rule in broken),
                },
            )
        return self

    def manifest(self) -> dict[str, Any]:
        """Return the object as the API writes it: camelCase, JSON types, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Condition(KubeModel):
    """One aspect of an object's state, as metav1.Condition has it."""

    type: CamelCaseWord = Field(description="The aspect, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the aspect holds.")
    reason: CamelCaseWord = Field(description="Why, in one CamelCase word of a closed list.")
    message: Annotated[str, Field(max_length=2048)] = Field(description="Why, in a sentence for people.")
    last_transition_time: Timestamp = Field(description="When status last changed.")
    observed_generation: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="The generation of the spec this condition speaks of."
    )


Conditions = Annotated[list[Condition], Field(max_length=16), ListMap("type")]


class StatusModel(KubeModel):
    """What every status starts with."""

    observed_generation: Annotated[int, Field(ge=-1, le=2**53)] = Field(
        default=-1,
        description="The generation this status speaks of; -1 until the operator has seen the object.",
    )
    conditions: Conditions = Field(
        default_factory=list,
        description="The state, aspect by aspect. Everything else here only explains it.",
    )


class ObjectMeta(BaseModel):
    """The part of an object's metadata that the operator reads; the server owns the rest."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    name: ResourceName
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


class Resource(KubeModel):
    """A whole object. Kinds add `kind` and say what `spec` and `status` are."""

    info: ClassVar[ResourceInfo]
    transition_rules: ClassVar[tuple[TransitionRule, ...]] = ()
    """Rules over updates; they see spec and status."""

    api_version: Literal["fettle.dev/v1alpha1"] = "fettle.dev/v1alpha1"
    metadata: ObjectMeta
    spec: KubeModel
    status: StatusModel = Field(default_factory=StatusModel)

    @classmethod
    def read(cls, manifest: Mapping[str, Any]) -> Self:
        """Return the object that the API server holds; raise InvalidObjectError naming each bad field."""
        try:
            return cls.model_validate(_without_nulls(manifest))
        except ValidationError as error:
            raise InvalidObjectError(tuple(_problems(error))) from error


def refused_changes(old: Resource, new: Resource) -> tuple[str, ...]:
    """Return a sentence for each transition rule that the update from old to new breaks."""
    return tuple(
        f"{rule.field or 'object'}: {rule.message}"
        for rule in type(new).transition_rules
        if not rule.holds(old, new)
    )


def same(one: Any, other: Any) -> bool:
    """Compare two values as CEL does: the order in list maps and list sets means nothing."""
    if isinstance(one, KubeModel) and type(one) is type(other):
        return all(
            _same_field(getattr(one, name), getattr(other, name), info)
            for name, info in type(one).model_fields.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _same_field(one: Any, other: Any, info: FieldInfo) -> bool:
    if not (one and other and _is_unordered(info.annotation, info.metadata)):
        return same(one, other)
    return len(one) == len(other) and all(any(same(item, twin) for twin in other) for item in one)


def _is_unordered(annotation: Any, metadata: Sequence[Any]) -> bool:
    """Tell whether a field is a list map or a list set; an optional one has its markers a level deeper."""
    if any(isinstance(marker, (ListMap, ListSet)) for marker in metadata):
        return True
    if get_origin(annotation) is Annotated:
        return _is_unordered(get_args(annotation)[0], get_args(annotation)[1:])
    return get_origin(annotation) in {Union, UnionType} and any(
        _is_unordered(member, ()) for member in get_args(annotation)
    )


def _without_nulls(value: Any) -> Any:
    """Take out the fields that are null; the API server drops them before it looks at an object."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _problems(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        loc, message, context = detail["loc"], detail["msg"], detail.get("ctx", {})
        if detail["type"] == "rule":
            yield from (
                f"{_dotted((*loc, field) if field else loc)}: {text}" for field, text in context["broken"]
            )
        elif detail["type"] == "duplicate":
            yield f"{_dotted((*loc, context['index']))}: {message}"
        else:
            yield f"{_dotted(loc)}: {message}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".") or "object"
