"""The configuration file: what is accepted, and what the administrator reads when it is wrong."""

from pathlib import Path

import pytest

from fettle_operator.errors import InvalidConfiguration
from fettle_operator.settings import load_settings

MINIMAL = "verifier: {image: registry.fettle.dev/operator:1}\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_only_the_verifier_image_is_required(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, MINIMAL))

    assert settings.watch_namespaces == ()
    assert settings.verifier.resources.requests["memory"] == "128Mi"


def test_the_file_of_the_contract_is_read(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            """
watchNamespaces: [team-a]
resyncSeconds: 300
log: {level: info, format: json}
imagePullSecrets: [pull]
verifier:
  image: registry.fettle.dev/operator:1
  resources: {requests: {cpu: 100m}, limits: {cpu: 1}}
  nodeSelector: {disk: ssd}
  tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]
profiles:
  gpu:
    description: one GPU a process
    images: {trainer: registry.fettle.dev/trainer:1, server: registry.fettle.dev/server:1}
    resources: {requests: {cpu: "4"}, limits: {cpu: 4, memory: 16Gi}}
    gpusPerProcess: 1
    nodeSelector: {}
    tolerations: []
    runtimeClassName: ""
    sharedMemory: 256Mi
    env: {}
""",
        )
    )

    assert settings.watch_namespaces == ("team-a",)
    assert settings.profiles["gpu"].gpus_per_process == 1
    assert settings.profiles["gpu"].resources.limits["cpu"] == "4"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("resyncSeconds: 1\n", "verifier"),
        (MINIMAL + "resyncSecond: 1\n", "resyncSecond"),
        (MINIMAL + "resyncSeconds: 0\n", "resyncSeconds"),
        (MINIMAL + "watchNamespaces: [Team_A]\n", "watchNamespaces.0"),
        (MINIMAL + "log: {level: loud}\n", "log.level"),
        (MINIMAL + "profiles: {cpu: {images: {trainer: a}}}\n", "profiles.cpu.images.server"),
        ("verifier: {image: a, resources: {requests: {cpu: much}}}\n", "verifier.resources.requests.cpu"),
        ("verifier: [\n", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_path_and_the_field(tmp_path: Path, text: str, where: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(InvalidConfiguration) as refusal:
        load_settings(path)

    assert str(path) in str(refusal.value)
    assert where in str(refusal.value)


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration) as refusal:
        load_settings(write(tmp_path, "resyncSeconds: -1\nlog: {level: loud}\n"))

    assert len(str(refusal.value).splitlines()) == 3


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="cannot be read: No such file"):
        load_settings(tmp_path / "absent.yaml")
