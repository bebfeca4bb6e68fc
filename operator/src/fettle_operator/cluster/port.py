"""What the operator needs of a cluster, and no more; the real one and the tests' fake both provide it.

Every method raises only the errors of `fettle_operator.errors`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from fettle_operator.labels import MANAGER
from fettle_operator.resources import ApiResource, Manifest, ObjectRef

__all__ = ["FIELD_MANAGER", "PAGE", "Cluster"]

FIELD_MANAGER = MANAGER
"""The one name under which the operator writes."""
PAGE = 100
"""Objects in one reply of a list: a reply is parsed as a whole, and of 500 jobs that takes tens of megabytes."""


class Cluster(Protocol):
    """Objects of one API server."""

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, or None."""
        ...

    async def list(
        self,
        resource: ApiResource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """Return the objects that match; `namespace=None` means the whole cluster."""
        ...

    def scan(self, resource: ApiResource, namespace: str | None) -> AsyncIterator[Manifest]:
        """Yield all objects of a kind, of which only a few are in memory at a time."""
        ...

    async def create(self, resource: ApiResource, manifest: Manifest) -> Manifest:
        """Create an object; raise AlreadyExists if its name is taken."""
        ...

    async def apply(self, resource: ApiResource, manifest: Manifest, live: Manifest) -> Manifest:
        """Make this very object (the UID of `live`) what the manifest says: fields left out since are removed."""
        ...

    async def delete(self, resource: ApiResource, live: Manifest) -> None:
        """Delete the object if it is still exactly what was read; raise Conflict if it is not."""
        ...

    async def write_status(self, resource: ApiResource, live: Manifest, status: Manifest) -> Manifest:
        """Replace the status of the object that was read; raise Conflict if it has changed since."""
        ...

    async def write_finalizers(
        self, resource: ApiResource, live: Manifest, finalizers: Sequence[str]
    ) -> Manifest:
        """Replace the finalizers of the object that was read; raise Conflict if it has changed since."""
        ...
