"""The committed definitions: fresh, deterministic, and kept to the conventions of the API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fettle_operator.api.kinds import KINDS
from fettle_operator.crd.__main__ import main
from fettle_operator.crd.definition import custom_resource_definition
from fettle_operator.crd.files import files_of

REPOSITORY = Path(__file__).parents[3]
BY_PLURAL = {kind.info.plural: custom_resource_definition(kind) for kind in KINDS}
DEFINITIONS = [pytest.param(definition, id=plural) for plural, definition in BY_PLURAL.items()]


def root(definition: dict[str, Any]) -> dict[str, Any]:
    (version,) = definition["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below and with this one."""
    yield path, schema
    for name, node in schema.get("properties", {}).items():
        yield from nodes(node, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def test_the_committed_files_are_what_the_models_give() -> None:
    assert main(["--check", str(REPOSITORY / "crds"), str(REPOSITORY / "charts/fettle/files/crds")]) == 0


def test_a_missing_a_changed_and_a_foreign_file_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, charts = tmp_path / "crds", tmp_path / "chart"
    assert main([str(mine), str(charts)]) == 0
    (mine / "adapters.fettle.dev.yaml").unlink()
    (charts / "finetunejobs.fettle.dev.yaml").write_text("edited: by hand\n")
    (charts / "notes.yaml").touch()

    assert main(["--check", str(mine), str(charts)]) == 1

    told = capsys.readouterr().err
    stale = (
        mine / "adapters.fettle.dev.yaml",
        charts / "finetunejobs.fettle.dev.yaml",
        charts / "notes.yaml",
    )
    assert told == f"not as generated: {', '.join(map(str, stale))}; run `make crds` and commit the result\n"
    assert main([str(mine), str(charts)]) == 0
    assert main(["--check", str(mine), str(charts)]) == 0
    assert not (charts / "notes.yaml").exists()


def test_a_file_reads_back_as_the_definition_it_was_made_from() -> None:
    written = files_of(KINDS[:1])["adapters.fettle.dev.yaml"]
    assert yaml.safe_load(written) == BY_PLURAL["adapters"]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_nothing_passes_through_untyped(definition: dict[str, Any]) -> None:
    text = json.dumps(definition)
    assert "x-kubernetes-preserve-unknown-fields" not in text
    assert "x-kubernetes-embedded-resource" not in text
    assert "$ref" not in text
    assert "nullable" not in text


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_no_reference_has_a_namespace(definition: dict[str, Any]) -> None:
    assert [path for path, _ in nodes(root(definition)) if path.endswith(".namespace")] == []


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_field_explains_itself(definition: dict[str, Any]) -> None:
    silent = [
        path
        for part in ("spec", "status")
        for path, node in nodes(root(definition)["properties"][part], part)
        if not path.endswith("[]") and not node.get("description")
    ]
    assert silent == []


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_everything_is_bounded(definition: dict[str, Any]) -> None:
    unbounded = [
        path
        for path, node in nodes(root(definition))
        if path.startswith((".spec", ".status"))
        and (
            (node.get("type") == "string" and not {"maxLength", "enum", "format"} & node.keys())
            or (node.get("type") == "array" and "maxItems" not in node)
            or ("additionalProperties" in node and "maxProperties" not in node)
        )
    ]
    assert unbounded == []


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_rule_has_a_message(definition: dict[str, Any]) -> None:
    rules = [rule for _, node in nodes(root(definition)) for rule in node.get("x-kubernetes-validations", ())]
    assert rules
    assert all(rule["message"] for rule in rules)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_status_follows_the_conventions(definition: dict[str, Any]) -> None:
    status = root(definition)["properties"]["status"]
    conditions = status["properties"]["conditions"]
    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["observedGeneration"]["type"] == "integer"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["items"]["required"] == ["type", "status", "reason", "message", "lastTransitionTime"]
    assert root(definition)["required"] == ["spec"]


@pytest.mark.parametrize(
    ("plural", "short_name", "columns", "wide"),
    [
        ("adapters", "adp", ["Phase", "Method", "Rank", "Base", "Age"], ["Digest", "Bytes", "Reason"]),
        (
            "finetunejobs",
            "ftj",
            ["Phase", "Progress", "Loss", "ETA", "Adapter", "Age"],
            ["Method", "Attempts", "GPU·h", "Reason"],
        ),
        (
            "inferencedeployments",
            "infd",
            ["Ready", "Phase", "Stable", "Candidate", "Step", "URL", "Age"],
            ["Replicas", "Profile", "Reason"],
        ),
    ],
)
def test_a_kind_is_named_and_shown_as_people_expect(
    plural: str, short_name: str, columns: list[str], wide: list[str]
) -> None:
    definition = BY_PLURAL[plural]
    (version,) = definition["spec"]["versions"]
    shown = version["additionalPrinterColumns"]
    assert definition["spec"]["names"]["shortNames"] == [short_name]
    assert definition["spec"]["names"]["categories"] == ["fettle"]
    assert [column["name"] for column in shown if not column.get("priority")] == columns
    assert [column["name"] for column in shown if column.get("priority")] == wide
    assert version["subresources"]["status"] == {}


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_every_column_shows_a_field_that_exists(definition: dict[str, Any]) -> None:
    (version,) = definition["spec"]["versions"]
    known = {path for path, _ in nodes(root(definition))}
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    simple = [path for path in paths if not path.startswith((".metadata", ".status.conditions"))]
    assert [path for path in simple if path not in known] == []


def test_a_deployment_can_be_scaled_by_the_usual_tools() -> None:
    definition = BY_PLURAL["inferencedeployments"]
    (version,) = definition["spec"]["versions"]
    assert version["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
