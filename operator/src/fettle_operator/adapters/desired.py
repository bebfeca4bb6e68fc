"""The Job that verifies an adapter: a pure function of the adapter, the attempt and the administrator's settings."""

from fettle_operator import labels
from fettle_operator.confinement import confined_container, confined_pod
from fettle_operator.names import child_name, digest_of
from fettle_operator.ownership import owner_reference
from fettle_operator.resources import ADAPTERS, Manifest
from fettle_operator.settings import Settings

__all__ = ["verification_job"]

_STORE = "/store"
_REPORT = "/dev/termination-log"


def verification_job(adapter: Manifest, attempt: int, settings: Settings) -> Manifest:
    """Return the Job of one attempt. Its name follows from adapter, spec and attempt, so it exists at most once."""
    metadata = adapter["metadata"]
    child_labels = labels.child_labels(labels.VERIFIER, ADAPTERS.kind, metadata["name"], metadata["uid"])
    child_labels[labels.ATTEMPT] = str(attempt)
    template = {
        "metadata": {"labels": child_labels},
        "spec": _pod(adapter["spec"]["source"]["volume"], settings),
    }
    return {
        "metadata": {
            "namespace": metadata["namespace"],
            "name": child_name(metadata["name"], "verify", digest_of(adapter["spec"]), str(attempt)),
            "labels": child_labels,
            "annotations": {labels.TEMPLATE_HASH: digest_of(template)},
            "ownerReferences": [owner_reference(ADAPTERS, adapter)],
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "suspend": False,
            # The operator decides on the next attempt: it knows which failures are worth one.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": settings.verifier.ttl_seconds,
            "template": template,
        },
    }


def _pod(volume: Manifest, settings: Settings) -> Manifest:
    verifier = settings.verifier
    directory = _STORE if volume["path"] == "." else f"{_STORE}/{volume['path']}"
    pod: Manifest = {
        **confined_pod(),
        # Counts from the moment a node takes the pod: waiting for a node is shown, not punished.
        "activeDeadlineSeconds": verifier.deadline_seconds,
        "containers": [
            {
                "name": "verify",
                "image": verifier.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "fettle_trainer"],
                "args": ["verify", "--directory", directory, "--report", _REPORT],
                "terminationMessagePath": _REPORT,
                "terminationMessagePolicy": "File",
                "resources": verifier.resources.model_dump(),
                "securityContext": confined_container(),
                "volumeMounts": [
                    {"name": "store", "mountPath": _STORE, "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path in the container
                ],
            }
        ],
        "volumes": [
            # Only the mount is read-only: an attachment that is read-only too would keep every writer out.
            {"name": "store", "persistentVolumeClaim": {"claimName": volume["claimName"]}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}},
        ],
        "nodeSelector": verifier.node_selector,
        "tolerations": [toleration.manifest() for toleration in verifier.tolerations],
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
    }
    return {key: value for key, value in pod.items() if value not in ([], {})}
