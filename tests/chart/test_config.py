"""Does the operator understand the configuration that the chart writes, and mean the same by it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from fettle_operator.settings import Settings, load_settings
from helm_chart import (
    CHART,
    NAMESPACE,
    VALUE_SETS,
    HelmRefusedError,
    only,
    operator_config,
    render,
    render_text,
)
from images.catalog import IMAGES
from images.values import render as image_values

if TYPE_CHECKING:
    from pathlib import Path


def settings_of(values: dict[str, Any] | Path | None, tmp_path: Path) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(operator_config(render(values)))
    return load_settings(path)


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_the_operator_reads_what_the_chart_writes(values: Path, tmp_path: Path) -> None:
    settings = settings_of(values, tmp_path)

    assert "cpu" in settings.profiles


def test_a_default_installation_works_in_its_own_namespace_alone(tmp_path: Path) -> None:
    assert settings_of({}, tmp_path).watch_namespaces == (NAMESPACE,)


def test_a_list_of_namespaces_replaces_the_releases_own(tmp_path: Path) -> None:
    assert settings_of({"watchNamespaces": ["b", "a"]}, tmp_path).watch_namespaces == ("b", "a")


def test_cluster_wide_means_no_list(tmp_path: Path) -> None:
    assert settings_of({"clusterWide": True}, tmp_path).watch_namespaces == ()


def test_cluster_wide_and_a_list_contradict_each_other() -> None:
    with pytest.raises(HelmRefusedError, match="watchNamespaces: must be empty when clusterWide is true"):
        render({"clusterWide": True, "watchNamespaces": ["a"]})


def test_every_image_follows_the_one_registry_value(tmp_path: Path) -> None:
    settings = settings_of({"images": {"registry": "mirror.example.com/x/"}}, tmp_path)

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert settings.verifier.image == f"mirror.example.com/x/operator:{version}"
    for profile in settings.profiles.values():
        assert profile.images.trainer == f"mirror.example.com/x/trainer:{version}"
        assert profile.images.server == f"mirror.example.com/x/server:{version}"
    assert "registry.fettle.dev" not in render_text({"images": {"registry": "mirror.example.com/x"}})


def test_the_values_that_the_image_build_writes_are_accepted_and_used(tmp_path: Path) -> None:
    tags = {image.name: f"0.1.0-{image.name}" for image in IMAGES}

    settings = settings_of(yaml.safe_load(image_values(tags)), tmp_path)

    assert settings.verifier.image.endswith("/operator:0.1.0-operator")
    assert settings.profiles["cpu"].images.trainer.endswith("/trainer:0.1.0-trainer")
    assert settings.profiles["cpu"].images.server.endswith("/server:0.1.0-server")


def test_a_digest_wins_over_a_tag_and_a_profiles_own_image_over_both(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    images = {"trainer": {"tag": "1", "digest": digest}, "server": {"tag": "1"}}
    own = {"gpu": {"images": {"server": "registry.example.com/vllm:9"}}}

    settings = settings_of({"images": images, "profiles": own}, tmp_path)

    assert settings.profiles["cpu"].images.trainer == f"registry.fettle.dev/trainer@{digest}"
    assert settings.profiles["cpu"].images.server == "registry.fettle.dev/server:1"
    assert settings.profiles["gpu"].images.server == "registry.example.com/vllm:9"


def test_a_profile_can_be_added_and_one_removed(tmp_path: Path) -> None:
    resources = {"requests": {"cpu": 2}, "limits": {"memory": "1Gi"}}

    settings = settings_of({"profiles": {"gpu": None, "tiny": {"resources": resources}}}, tmp_path)

    assert set(settings.profiles) == {"cpu", "tiny"}
    assert settings.profiles["tiny"].resources.requests == {"cpu": "2"}
    assert settings.profiles["tiny"].images.trainer.startswith("registry.fettle.dev/trainer:")


def test_every_value_of_a_section_reaches_the_operator(tmp_path: Path) -> None:
    values = {
        "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
        "operator": {
            "resyncSeconds": 30,
            "backoff": {"initialSeconds": 0.5, "maxSeconds": 9},
            "log": {"level": "debug", "format": "text"},
        },
        "verifier": {"attempts": 7, "deadlineSeconds": 77, "ttlSeconds": 604800, "nodeSelector": {"a": "b"}},
    }

    settings = settings_of(values, tmp_path)

    assert settings.image_pull_secrets == ("one", "two")
    assert (settings.resync_seconds, settings.backoff.initial_seconds, settings.backoff.max_seconds) == (
        30,
        0.5,
        9,
    )
    assert (settings.log.level, settings.log.format) == ("debug", "text")
    verifier = settings.verifier
    assert (verifier.attempts, verifier.deadline_seconds, verifier.ttl_seconds) == (7, 77, 604800)
    assert verifier.node_selector == {"a": "b"}


def test_the_chart_offers_every_setting_of_the_operator() -> None:
    """A setting that the chart cannot set would be out of reach, and a missing default would be told in two places."""
    rendered = yaml.safe_load(operator_config(render()))

    assert paths_of(rendered) >= paths_of(defaults_of(rendered))


def defaults_of(rendered: dict[str, Any]) -> dict[str, Any]:
    """Return the rendered settings with every field that the operator knows filled in."""
    return Settings.model_validate(rendered).model_dump(mode="json", by_alias=True)


def paths_of(node: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in node.items():
        found.add(f"{above}{key}")
        if isinstance(value, dict):
            found |= paths_of(value, f"{above}{key}.")
    return found


def test_a_changed_setting_rolls_the_pod_and_an_unchanged_one_does_not() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = only(render(values), "Deployment")["spec"]["template"]
        text: str = template["metadata"]["annotations"]["fettle.dev/config-sha256"]
        return text

    assert checksum({}) == checksum({"metrics": {"service": {"enabled": False}}})
    assert checksum({}) != checksum({"operator": {"log": {"level": "debug"}}})
