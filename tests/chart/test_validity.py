"""Do the usual tools accept what the chart makes, for every value set, and does Helm still make the agreed defaults?

kubeconform checks every object: Kubernetes' own kinds and CustomResourceDefinitions against strict schemas made from
the OpenAPI document of the version that devcluster runs; ServiceMonitor and PrometheusRule against `schemas/`, which
holds just the fields that the chart uses. Nothing is fetched from a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from helm_chart import CHART, KUBERNETES, ROOT, VALUE_SETS, helm, of_kind, program, render, render_text
from kubernetes_schemas import openapi_document, write_schemas

GOLDEN = Path(__file__).parent / "golden" / "defaults.yaml"
OWN_SCHEMAS = Path(__file__).parent / "schemas"
KINDS = (
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CustomResourceDefinition",
    "Deployment",
    "NetworkPolicy",
    "Pod",
    "Role",
    "RoleBinding",
    "Service",
    "ServiceAccount",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)
SCORE_OPTIONAL = ("container-seccomp-profile", "container-ports-check")
# The one check that a value set fails on purpose.
SCORE_ACCEPTED = {"without-network-policy": ["pod-networkpolicy"]}

every_value_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(openapi_document(), folder, KINDS)
    for path in OWN_SCHEMAS.glob("*.json"):
        shutil.copy(path, folder)
    return folder


def kubeconform(schemas: Path, text: str) -> subprocess.CompletedProcess[str]:
    location = f"{schemas}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    return subprocess.run(
        [program("kubeconform"), "-strict", "-summary", "-schema-location", location, "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_there_are_at_least_ten_value_sets() -> None:
    assert len(VALUE_SETS) >= 10


@every_value_set
def test_helm_lint_is_content(values: Path) -> None:
    said = helm("lint", str(CHART), "--strict", "--kube-version", KUBERNETES, "-f", str(values))

    assert "0 chart(s) failed" in said


@every_value_set
def test_every_object_fits_its_schema(values: Path, schemas: Path) -> None:
    checked = kubeconform(schemas, render_text(values))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "Skipped: 0" in checked.stdout


def test_the_schemas_refuse_a_misspelt_field_and_a_wrong_type(schemas: Path) -> None:
    text = render_text()

    assert kubeconform(schemas, text.replace("enableServiceLinks", "enableServiceLink")).returncode != 0
    assert kubeconform(schemas, text.replace("replicas: 1", "replicas: one")).returncode != 0


@every_value_set
def test_kube_score_finds_nothing_to_warn_about(values: Path) -> None:
    ignored = SCORE_ACCEPTED.get(values.stem, [])
    command = [program("kube-score"), "score", "-", "--exit-one-on-warning", "--output-format", "ci"]
    command += ["--kubernetes-version", "v1.34"]
    command += [word for name in SCORE_OPTIONAL for word in ("--enable-optional-test", name)]
    command += [word for name in ignored for word in ("--ignore-test", name)]

    scored = subprocess.run(
        command, input=render_text(values), capture_output=True, text=True, check=False, timeout=120
    )

    complaints = [line for line in scored.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))]
    assert scored.returncode == 0, "\n".join(complaints) + scored.stderr


def test_the_defaults_render_as_agreed() -> None:
    """Rewritten by UPDATE_GOLDEN=1; the definitions and the script of `helm test` are files of their own."""
    manifests = [
        each
        for each in render()
        if each["kind"] != "CustomResourceDefinition" and "helm_test.py" not in each.get("data", {})
    ]
    text = yaml.safe_dump_all(manifests, width=120)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)

    assert text == GOLDEN.read_text()


def test_the_chart_has_the_version_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert f'\nversion = "{chart["version"]}"\n' in project
    assert chart["appVersion"] == chart["version"]


@every_value_set
def test_every_object_carries_the_common_labels(values: Path) -> None:
    for manifest in render(values):
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "fettle", manifest["metadata"]["name"]
        assert labels["app.kubernetes.io/part-of"] == "fettle"
        assert labels["helm.sh/chart"].startswith("fettle-")


def test_names_stay_within_their_limit_however_long_the_release_is() -> None:
    manifests = render({"fullnameOverride": "a" * 40, "clusterWide": True})

    assert all(
        len(each["metadata"]["name"]) <= 63 for each in of_kind(manifests, "Deployment", "Service", "Pod")
    )
