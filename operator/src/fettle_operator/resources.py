"""The kinds of object that the operator touches, and how one of them is addressed."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

__all__ = [
    "ADAPTERS",
    "CLAIMS",
    "CONFIGMAPS",
    "EVENTS",
    "FINETUNEJOBS",
    "INFERENCEDEPLOYMENTS",
    "JOBS",
    "PODS",
    "SERVICES",
    "ApiResource",
    "Manifest",
    "ObjectRef",
    "ref_of",
]

Manifest = dict[str, Any]
"""An object as the API server writes it in JSON."""


@dataclass(frozen=True)
class ApiResource:
    """One kind, by all the names it goes by."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """Return what stands in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path; every segment is quoted, so no name can lead elsewhere."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = ["namespaces", namespace] if namespace else []
        segments = [*scope, self.plural, *([name] if name else []), *([subresource] if subresource else [])]
        return root + "".join(f"/{quote(segment, safe='')}" for segment in segments)


@dataclass(frozen=True)
class ObjectRef:
    """The address of one object; it says nothing about which object (UID) is there now."""

    resource: ApiResource
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource.kind} {self.namespace}/{self.name}"


def ref_of(resource: ApiResource, manifest: Manifest) -> ObjectRef:
    """Return the address of an object that was read."""
    return ObjectRef(resource, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


ADAPTERS = ApiResource("fettle.dev", "v1alpha1", "adapters", "Adapter")
FINETUNEJOBS = ApiResource("fettle.dev", "v1alpha1", "finetunejobs", "FineTuneJob")
INFERENCEDEPLOYMENTS = ApiResource("fettle.dev", "v1alpha1", "inferencedeployments", "InferenceDeployment")
JOBS = ApiResource("batch", "v1", "jobs", "Job")
PODS = ApiResource("", "v1", "pods", "Pod")
CLAIMS = ApiResource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIGMAPS = ApiResource("", "v1", "configmaps", "ConfigMap")
SERVICES = ApiResource("", "v1", "services", "Service")
EVENTS = ApiResource("", "v1", "events", "Event")
