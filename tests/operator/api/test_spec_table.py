"""The Python models against the table of specs; tests/integration/test_schema_server.py asks the API server."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest

from fettle_operator.api.base import InvalidObjectError, KubeModel
from fettle_operator.api.kinds import KINDS
from fettle_operator.api.markers import Rule
from spec_table import FULL_SPECS, HANDWRITTEN, Row, generated_rows, leaves_of

KIND_MODELS = {kind.info.kind: kind for kind in KINDS}


def read(row: Row) -> tuple[KubeModel | None, dict[str, str]]:
    """Return the object, or path to problem."""
    try:
        return KIND_MODELS[row.kind].read(row.manifest), {}
    except InvalidObjectError as error:
        return None, dict(problem.split(": ", 1) for problem in error.problems)


def models_in(annotation: Any) -> Iterator[type[KubeModel]]:
    """Yield every model that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, KubeModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from models_in(info.annotation)
    for part in get_args(annotation):
        yield from models_in(part)


def instances_in(value: Any) -> Iterator[KubeModel]:
    """Yield every model that an object is made of."""
    if isinstance(value, KubeModel):
        yield value
        for name in type(value).model_fields:
            yield from instances_in(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from instances_in(item)


@cache
def handwritten_evidence() -> tuple[set[str], set[type[KubeModel]]]:
    """Return the problems of all refused rows, and the models of which an accepted row has an instance."""
    outcomes = [read(row) for row in HANDWRITTEN]
    broken = {problem for _, problems in outcomes for problem in problems.values()}
    return broken, {type(part) for found, _ in outcomes for part in instances_in(found)}


ALL_RULES = [
    pytest.param(model, rule, id=f"{model.__name__}-{rule.message}")
    for model in dict.fromkeys(model for kind in KINDS for model in models_in(kind))
    for rule in model.rules
]


@pytest.mark.parametrize("row", HANDWRITTEN, ids=lambda row: f"{row.kind}-{row.title}")
def test_a_handwritten_row_meets_its_verdict_in_the_models(row: Row) -> None:
    found, problems = read(row)
    assert (found is not None) == row.accepted, problems
    assert row.accepted or row.blames in problems


def test_every_generated_row_with_a_known_verdict_meets_it_in_the_models() -> None:
    wrong = []
    for row in generated_rows():
        found, problems = read(row)
        as_said = (found is not None) == row.accepted and (row.accepted or row.blames in problems)
        if row.accepted is not None and not as_said:
            wrong.append(f"{row.kind} {row.title}: {problems or 'accepted'}")
    assert wrong == []


def test_every_leaf_of_every_kind_is_tried_with_at_least_five_values() -> None:
    tried = Counter((row.kind, re.sub(r"\[\d+\]", "[]", row.blames)) for row in generated_rows())
    too_few = [
        f"{kind} {leaf}"
        for kind in FULL_SPECS
        for leaf, node in leaves_of(kind).items()
        if node.get("type") not in {"object", "array"}
        and not leaf.endswith(".*")
        and tried[kind, f"spec.{leaf}"] < 5
    ]
    assert too_few == []


@pytest.mark.parametrize(("model", "rule"), ALL_RULES)
def test_every_rule_is_tried_from_both_sides_by_a_handwritten_row(model: type[KubeModel], rule: Rule) -> None:
    broken, kept = handwritten_evidence()
    assert rule.message in broken
    assert model in kept
