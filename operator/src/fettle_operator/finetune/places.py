"""Where things lie in the pods of a FineTuneJob: claims, ConfigMaps and Secrets, and the paths of what is on them. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from fettle_operator.finetune.children import store_claim
from fettle_operator.finetune.sources import Start
from fettle_operator.resources import Manifest

__all__ = [
    "CONFIG_FILE",
    "Places",
    "Secrets",
    "claim_folder",
    "comes_from_hub",
    "places_of",
    "secret_file",
    "work_folder",
]

T = TypeVar("T")
Secrets = tuple[tuple[str, str], ...]
"""Name and entry of each."""

_CLAIMS = "/claims"
_CONFIG_MAPS = "/configmaps"
_SECRETS = "/secrets"
_CONFIG = "/etc/fettle"
CONFIG_FILE = f"{_CONFIG}/run.json"
_SECRET_MODE = 0o440


@dataclass(frozen=True)
class Places:
    """Everything that the pods of a job mount."""

    store: str
    """The claim that is written to; all others are only read."""
    claims: tuple[str, ...]
    config_maps: tuple[str, ...]
    downloads: Secrets
    """What the step that fetches from the hub needs, and no other."""
    tracking: Secrets
    """What the training needs to tell others of itself."""

    def volumes(self, run_config: str, secrets: Secrets) -> list[Manifest]:
        """Return a pod's volumes; `run_config` is the name of the ConfigMap with the run configuration."""
        return [
            {"name": "run", "configMap": {"name": run_config}},
            *(
                {"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": name}}
                for number, name in enumerate(self.claims)
            ),
            *(
                {"name": f"config-{number}", "configMap": {"name": name}}
                for number, name in enumerate(self.config_maps)
            ),
            *(
                {"name": f"secret-{number}", "secret": _secret(name, key)}
                for number, (name, key) in enumerate(secrets)
            ),
        ]

    def mounts(self, secrets: Secrets) -> list[Manifest]:
        """Return where a container finds them. Only the mount is read-only: the claim may have other writers."""
        return [
            {"name": "run", "mountPath": _CONFIG, "readOnly": True},
            *(
                {"name": f"claim-{number}", "mountPath": claim_folder(name), "readOnly": name != self.store}
                for number, name in enumerate(self.claims)
            ),
            *(
                {"name": f"config-{number}", "mountPath": f"{_CONFIG_MAPS}/{name}", "readOnly": True}
                for number, name in enumerate(self.config_maps)
            ),
            *(
                {"name": f"secret-{number}", "mountPath": f"{_SECRETS}/{name}/{key}", "readOnly": True}
                for number, (name, key) in enumerate(secrets)
            ),
        ]


def places_of(live: Manifest, start: Start) -> Places:
    """Return what the pods mount, each thing once."""
    spec, store = live["spec"], store_claim(live)
    sources = _sources(spec)
    claims = [
        store,
        *start.claims,
        *(source["volume"]["claimName"] for source in sources if "volume" in source),
    ]
    return Places(
        store=store,
        claims=_distinct(claims),
        config_maps=_distinct(source["configMap"]["name"] for source in sources if "configMap" in source),
        downloads=_distinct(_downloads(spec, start)),
        tracking=_distinct(_tracking(spec)),
    )


def comes_from_hub(live: Manifest, start: Start) -> bool:
    """Tell whether anything has to be fetched from the hub."""
    return start.hub is not None or any("huggingFace" in source for source in _sources(live["spec"]))


def claim_folder(claim: str, path: str = ".") -> str:
    """Return the path of something on a claim."""
    folder = f"{_CLAIMS}/{claim}"
    return folder if path == "." else f"{folder}/{path}"


def config_map_path(name: str, key: str | None) -> str:
    """Return the path of an entry of a ConfigMap, or of the folder with all of them."""
    folder = f"{_CONFIG_MAPS}/{name}"
    return folder if key is None else f"{folder}/{key}"


def secret_file(reference: Manifest) -> str:
    """Return the path of the file that holds one entry of a Secret."""
    return f"{_SECRETS}/{reference['name']}/{reference['key']}/{reference['key']}"


def work_folder(live: Manifest) -> str:
    """Return the folder for checkpoints and reports: all attempts of this job, and only they, share it."""
    return claim_folder(store_claim(live), f".fettle/runs/{live['metadata']['uid']}")


def _secret(name: str, key: str) -> Manifest:
    return {"secretName": name, "defaultMode": _SECRET_MODE, "items": [{"key": key, "path": key}]}


def _sources(spec: Manifest) -> list[Manifest]:
    return [*spec["dataset"]["train"], *spec["dataset"].get("validation", [])]


def _downloads(spec: Manifest, start: Start) -> Iterator[tuple[str, str]]:
    return _entries(
        [
            start.hub or {},
            *(source.get("huggingFace") or {} for source in _sources(spec)),
        ]
    )


def _tracking(spec: Manifest) -> Iterator[tuple[str, str]]:
    return _entries([(spec.get("tracking") or {}).get("mlflow") or {}])


def _entries(users: Iterable[Manifest]) -> Iterator[tuple[str, str]]:
    references = (user.get("tokenSecretRef") for user in users)
    return ((reference["name"], reference["key"]) for reference in references if reference)


def _distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
