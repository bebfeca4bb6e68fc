"""The generator of schemas: what it translates, and what it refuses rather than weakens."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import ConfigDict, Field, StringConstraints

from fettle_operator.api.base import KubeModel, Timestamp
from fettle_operator.api.markers import IntOrString, ListMap, ListSet, Rule, Takes, exactly_one_of
from fettle_operator.crd.schema import SchemaError, schema_of

Word = Annotated[str, Field(max_length=8)]
Small = Annotated[int, Field(ge=0, le=9)]


class Inner(KubeModel):
    key: Word = Field(description="The key.")
    size: Small = Field(default=1, description="The size.")


class Pair(KubeModel):
    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one_of("one", "twoWords"),
        Rule("self.one != 'x'", "one must not be x", lambda self: self.one != "x", field="one"),
    )

    one: Word | None = Field(default=None, description="One.")
    two_words: Word | None = Field(default=None, description="Two.")


class Loop(KubeModel):
    again: "Loop | None" = Field(default=None, description="Again.")


class Open(KubeModel):
    model_config = ConfigDict(extra="ignore")


def schema_for(annotation: Any, **field: Any) -> dict[str, Any]:
    """Return the schema of a field of this type, without its description."""
    model = type(
        "Model", (KubeModel,), {"__annotations__": {"some_field": annotation}, "some_field": _field(field)}
    )
    schema: dict[str, Any] = schema_of(model, "spec")["properties"]["someField"]
    return {key: value for key, value in schema.items() if key != "description"}


def _field(arguments: dict[str, Any]) -> Any:
    return Field(**({"description": "Some field."} | arguments))


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        pytest.param(Word, {"type": "string", "maxLength": 8}, id="a string"),
        pytest.param(
            Annotated[str, Field(min_length=1, max_length=8, pattern=r"^a\.$"), Takes("an a and a dot")],
            {
                "type": "string",
                "minLength": 1,
                "maxLength": 8,
                "pattern": r"^a\.$",
                "x-kubernetes-validations": [
                    {"rule": r'self.matches(r"^a\.$")', "message": "must be an a and a dot"}
                ],
            },
            id="a string with every bound",
        ),
        pytest.param(Small, {"type": "integer", "minimum": 0, "maximum": 9}, id="an integer"),
        pytest.param(
            Annotated[float, Field(gt=0, lt=1)],
            {
                "type": "number",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
                "exclusiveMaximum": True,
            },
            id="a number between open bounds",
        ),
        pytest.param(bool, {"type": "boolean"}, id="a truth value"),
        pytest.param(Timestamp, {"type": "string", "format": "date-time"}, id="a moment"),
        pytest.param(datetime, {"type": "string", "format": "date-time"}, id="a plain moment"),
        pytest.param(Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, id="a word of a list"),
        pytest.param(Literal["a"], {"type": "string", "enum": ["a"]}, id="one word, never const"),
        pytest.param(
            Annotated[list[Small], Field(max_length=3)],
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "maximum": 9},
                "x-kubernetes-list-type": "atomic",
                "maxItems": 3,
            },
            id="a list",
        ),
        pytest.param(
            Annotated[list[Word], Field(min_length=1, max_length=3), ListSet()],
            {
                "type": "array",
                "items": {"type": "string", "maxLength": 8},
                "x-kubernetes-list-type": "set",
                "minItems": 1,
                "maxItems": 3,
            },
            id="a set",
        ),
        pytest.param(
            Annotated[dict[str, Word], Field(max_length=3)],
            {
                "type": "object",
                "additionalProperties": {"type": "string", "maxLength": 8},
                "maxProperties": 3,
            },
            id="a map",
        ),
        pytest.param(
            Annotated[Small | Annotated[str, Field(max_length=4, pattern="%$")], IntOrString("a share")],
            {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "minimum": 0,
                "maximum": 9,
                "maxLength": 4,
                "pattern": "%$",
                "x-kubernetes-validations": [
                    {
                        "rule": 'type(self) == string ? self.matches(r"%$") : type(self) == int && self >= 0 && self <= 9',
                        "message": "must be a share",
                    }
                ],
            },
            id="a number or a text",
        ),
        pytest.param(
            Annotated[Small | Literal["auto"], IntOrString("a number or auto")],
            {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "minimum": 0,
                "maximum": 9,
                "maxLength": 4,
                "pattern": "^(auto)$",
                "x-kubernetes-validations": [
                    {
                        "rule": 'type(self) == string ? self.matches(r"^(auto)$") : type(self) == int && self >= 0 && self <= 9',
                        "message": "must be a number or auto",
                    }
                ],
            },
            id="a number or a word",
        ),
    ],
)
def test_a_type_is_translated_exactly(annotation: Any, schema: dict[str, Any]) -> None:
    assert schema_for(annotation) == schema


def test_an_optional_field_is_plain_and_not_required() -> None:
    schema = schema_of(Pair, "spec")
    assert schema["properties"]["one"] == {"description": "One.", "type": "string", "maxLength": 8}
    assert "required" not in schema


def test_a_list_map_names_its_key_as_the_api_does() -> None:
    schema = schema_for(Annotated[list[Inner], Field(max_length=3), ListMap("key")])
    assert schema["x-kubernetes-list-type"] == "map"
    assert schema["x-kubernetes-list-map-keys"] == ["key"]


def test_nested_defaults_fire_because_their_object_defaults_to_an_empty_one() -> None:
    class Defaults(KubeModel):
        size: Small = Field(default=1, description="The size.")

    assert schema_for(Defaults, default_factory=Defaults)["default"] == {}


def test_an_empty_list_or_map_is_not_persisted() -> None:
    assert "default" not in schema_for(Annotated[list[Word], Field(max_length=3)], default_factory=list)
    assert "default" not in schema_for(Annotated[dict[str, Word], Field(max_length=3)], default_factory=dict)


def test_a_rule_becomes_cel_with_its_message_and_the_field_to_blame() -> None:
    assert schema_of(Pair, "spec")["x-kubernetes-validations"] == [
        {
            "rule": "[has(self.one), has(self.twoWords)].exists_one(set, set)",
            "message": "set exactly one of one and twoWords",
        },
        {"rule": "self.one != 'x'", "message": "one must not be x", "fieldPath": ".one"},
    ]


@pytest.mark.parametrize(
    ("annotation", "field", "problem"),
    [
        pytest.param(str, {}, "has no max_length", id="a string without end"),
        pytest.param(int, {}, "has no ge and le", id="an integer without bounds"),
        pytest.param(
            Annotated[int, Field(ge=0)], {}, "has no ge and le", id="an integer without an upper bound"
        ),
        pytest.param(list[Word], {}, "has no max_length", id="a list without end"),
        pytest.param(dict[str, Word], {}, "has no max_length", id="a map without end"),
        pytest.param(
            Annotated[list[str], Field(max_length=1)], {}, r"spec\.someField\[\]: has no", id="an item"
        ),
        pytest.param(
            Annotated[dict[str, str], Field(max_length=1)],
            {},
            r"spec\.someField\.\*: has no",
            id="a map's value",
        ),
        pytest.param(
            Annotated[dict[Word, Word], Field(max_length=1)],
            {},
            "other keys than str",
            id="a map with bounded keys",
        ),
        pytest.param(Any, {}, "has type Any", id="anything"),
        pytest.param(
            Annotated[dict[str, Any], Field(max_length=1)], {}, "has type Any", id="a map of anything"
        ),
        pytest.param(set[Word], {}, "has type set", id="a Python set"),
        pytest.param(tuple[Word, ...], {}, "has type tuple", id="a tuple"),
        pytest.param(bytes, {}, "has type bytes", id="bytes"),
        pytest.param(None, {}, "has type None", id="nothing"),
        pytest.param(Word | None, {}, "may be None but is required", id="a required null"),
        pytest.param(Word | None, {"default": "x"}, "null is not a value", id="a null beside a default"),
        pytest.param(Small | Word, {}, "is a union", id="an unmarked number or text"),
        pytest.param(
            Annotated[float | Word, IntOrString("x")], {}, "is a union of float", id="a fraction or a text"
        ),
        pytest.param(Inner | Pair, {}, "is a union", id="one of two models"),
        pytest.param(
            Annotated[Small | Word, IntOrString("x")], {}, "takes any text", id="a number or any text"
        ),
        pytest.param(
            Annotated[str, Field(max_length=8, pattern="^a$")],
            {},
            "without Takes",
            id="a pattern without words",
        ),
        pytest.param(Annotated[Word, Takes("a word")], {}, "without a pattern", id="words without a pattern"),
        pytest.param(Literal["a", 1], {}, "mixed types", id="words and numbers"),
        pytest.param(Literal[True], {}, "other than words and numbers", id="a literal truth"),
        pytest.param(Annotated[int, Field(ge=0, le=9, multiple_of=3)], {}, "MultipleOf", id="a multiple"),
        pytest.param(
            Annotated[str, StringConstraints(max_length=8, to_lower=True)],
            {},
            "carries",
            id="a change of letters",
        ),
        pytest.param(
            Annotated[str, StringConstraints(max_length=8, to_lower=True, pattern="^a$")],
            {},
            "mixes pattern",
            id="a change of letters beside a pattern",
        ),
        pytest.param(Word, {"description": None}, "has no description", id="no description"),
        pytest.param(Word, {"description": "x" * 401}, "more than 400 characters", id="a novel"),
        pytest.param(
            Annotated[list[Word], Field(max_length=3)],
            {"default": ["a"]},
            "only scalars",
            id="a list as default",
        ),
        pytest.param(
            Small, {"default_factory": lambda: 4}, "default factory other than", id="a made default"
        ),
        pytest.param(
            Annotated[list[Inner], Field(max_length=3), ListSet()],
            {},
            "other than scalars",
            id="a set of objects",
        ),
        pytest.param(
            Annotated[list[Inner], Field(max_length=3), ListMap("size")],
            {},
            "no required field",
            id="a list map by an optional key",
        ),
        pytest.param(
            Annotated[list[Word], Field(max_length=3), ListMap("key")],
            {},
            "no required field",
            id="a list map of scalars",
        ),
        pytest.param(Annotated[Word, ListSet()], {}, "carries ListSet", id="a marker of lists on a string"),
        pytest.param(Loop, {}, r"someField\.again: Loop contains itself", id="a model in itself"),
        pytest.param(Open, {}, "takes unknown fields", id="a model with unknown fields"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_with_its_path(
    annotation: Any, field: dict[str, Any], problem: str
) -> None:
    with pytest.raises(SchemaError, match=problem) as refusal:
        schema_for(annotation, **field)
    assert refusal.value.path.startswith("spec.someField")


def test_a_reference_to_another_namespace_is_refused() -> None:
    class Reference(KubeModel):
        namespace: Word = Field(description="Where.")

    with pytest.raises(SchemaError, match=r"^spec\.namespace: references stay in the object's own namespace"):
        schema_of(Reference, "spec")
