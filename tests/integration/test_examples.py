"""Every example of our own kinds is accepted by the API server, without an unknown or a pruned field."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from devcluster.apiserver import ApiServer

pytestmark = pytest.mark.apiserver

EXAMPLES = Path(__file__).parents[2] / "examples"
PLURALS = {
    "Adapter": "adapters",
    "FineTuneJob": "finetunejobs",
    "InferenceDeployment": "inferencedeployments",
}


def own_objects() -> list[Any]:
    return [
        pytest.param(document, id=f"{file.relative_to(EXAMPLES)}:{document['metadata']['name']}")
        for file in sorted(EXAMPLES.rglob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text())
        if document.get("apiVersion", "").startswith("fettle.dev/")
    ]


@pytest.mark.parametrize("example", own_objects())
def test_an_example_is_accepted_as_it_stands(
    example: dict[str, Any], installed: ApiServer, namespace: str
) -> None:
    path = f"/apis/{example['apiVersion']}/namespaces/{namespace}/{PLURALS[example['kind']]}"
    made = installed.api().request("POST", f"{path}?dryRun=All&fieldValidation=Strict", example)
    assert made["spec"].keys() >= example["spec"].keys()


def test_there_is_an_example_of_every_kind() -> None:
    assert {param.values[0]["kind"] for param in own_objects()} == set(PLURALS)
