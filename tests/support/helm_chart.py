"""The chart, rendered by the real Helm: what every chart test starts from."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from devcluster import build

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fettle"
VALUE_SETS = sorted((ROOT / "tests" / "chart" / "values").glob("*.yaml"))
RELEASE = "fettle"
NAMESPACE = "fettle-system"
KUBERNETES = "1.34.2"

Manifest = dict[str, Any]


class HelmRefusedError(Exception):
    """Helm said no; the message is what it said."""


@cache
def program(name: str) -> str:
    """Return where a program of the cluster's toolbox lies, built if it is missing."""
    return str(build.ensure([name])[name])


def helm(*arguments: str, stdin: str | None = None) -> str:
    """Run Helm, return its output, or raise with what it complained about."""
    done = subprocess.run(
        [program("helm"), *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise HelmRefusedError(done.stdout + done.stderr)
    return done.stdout


def render_text(values: Mapping[str, Any] | Path | None = None, *options: str, chart: Path = CHART) -> str:
    """Return what `helm template` prints for these values."""
    text = values.read_text() if isinstance(values, Path) else yaml.safe_dump(dict(values or {}))
    return _template(text, options, chart)


@cache
def _template(values: str, options: tuple[str, ...], chart: Path) -> str:
    name = ["template", RELEASE, str(chart), "-n", NAMESPACE, "--kube-version", KUBERNETES]
    return helm(*name, *options, "-f", "-", stdin=values)


def render(
    values: Mapping[str, Any] | Path | None = None, *options: str, chart: Path = CHART
) -> list[Manifest]:
    """Return the objects that the chart makes of these values, those of `helm test` included; not to be changed."""
    return list(_parsed(render_text(values, *options, chart=chart)))


@cache
def _parsed(text: str) -> tuple[Manifest, ...]:
    # The C parser: the resource definitions alone take Python's most of a second.
    return tuple(document for document in yaml.load_all(text, yaml.CSafeLoader) if document)


def of_kind(manifests: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Return the objects of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def only(manifests: Iterable[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the one object of a kind whose name ends so."""
    found = [each for each in of_kind(manifests, kind) if each["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} end in {suffix!r}"
    return found[0]


def operator_config(manifests: Iterable[Manifest]) -> str:
    """Return the text of the operator's configuration file."""
    text: str = only(manifests, "ConfigMap", "-config")["data"]["config.yaml"]
    return text


def pods(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield name, metadata and spec of every pod that the chart makes."""
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            yield name, manifest["metadata"], manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            template = manifest["spec"]["template"]
            yield name, template["metadata"], template["spec"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a selector of labels alone matches."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert {each["operator"] for each in expressions} <= {"In"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )
