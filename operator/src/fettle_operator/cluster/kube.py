"""The Cluster port over HTTP: which request each of its methods is."""

from collections.abc import AsyncIterator, Mapping, Sequence

from fettle_operator.cluster.merge import merge_patch
from fettle_operator.cluster.port import FIELD_MANAGER, PAGE
from fettle_operator.cluster.transport import Transport
from fettle_operator.errors import NotFound
from fettle_operator.labels import selector
from fettle_operator.resources import ApiResource, Manifest, ObjectRef, ref_of

__all__ = ["KubeCluster"]

_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"


class KubeCluster:
    """A real API server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, or None."""
        try:
            return await self._transport.request(
                "get", ref.resource.plural, ref.resource.path(ref.namespace, ref.name)
            )
        except NotFound:
            return None

    async def list(
        self,
        resource: ApiResource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """Return the objects that match."""
        return [found async for found in self.scan(resource, namespace, labels, fields)]

    async def scan(
        self,
        resource: ApiResource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Manifest]:
        """Yield the objects that match, fetched in pages so that no reply grows without bound."""
        parameters = {"limit": str(PAGE)}
        if labels:
            parameters["labelSelector"] = selector(labels)
        if fields:
            parameters["fieldSelector"] = selector(fields)
        while True:
            page = await self._transport.request(
                "list", resource.plural, resource.path(namespace), parameters=parameters
            )
            for found in page.get("items") or []:
                yield found
            parameters["continue"] = page.get("metadata", {}).get("continue") or ""
            if not parameters["continue"]:
                return

    async def create(self, resource: ApiResource, manifest: Manifest) -> Manifest:
        """Create an object; raise AlreadyExists if its name is taken.

        A plain POST: an apply would quietly merge into a namesake that somebody else made a moment ago.
        """
        return await self._transport.request(
            "create",
            resource.plural,
            resource.path(manifest["metadata"]["namespace"]),
            parameters={"fieldManager": FIELD_MANAGER},
            body=_typed(resource, manifest),
        )

    async def apply(self, resource: ApiResource, manifest: Manifest, live: Manifest) -> Manifest:
        """Make this very object what the manifest says; fields left out since are removed."""
        live = await self._own_creation_by_apply(resource, live)
        intent = _typed(resource, manifest)
        intent["metadata"] = {**intent["metadata"], "uid": live["metadata"]["uid"]}
        return await self._transport.request(
            "patch",
            resource.plural,
            _path(resource, live),
            parameters={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=intent,
            content_type=_APPLY,
        )

    async def delete(self, resource: ApiResource, live: Manifest) -> None:
        """Delete the object if it is still exactly what was read; one that is gone already is fine."""
        metadata = live["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        options = {"preconditions": preconditions, "propagationPolicy": "Background"}
        try:
            await self._transport.request("delete", resource.plural, _path(resource, live), body=options)
        except NotFound:
            return

    async def write_status(self, resource: ApiResource, live: Manifest, status: Manifest) -> Manifest:
        """Replace the status of the object that was read; raise Conflict if it has changed since."""
        change = {"status": merge_patch(live.get("status") or {}, status)}
        return await self._merge(resource, live, change, subresource="status")

    async def write_finalizers(
        self, resource: ApiResource, live: Manifest, finalizers: Sequence[str]
    ) -> Manifest:
        """Replace the finalizers of the object that was read; raise Conflict if it has changed since."""
        return await self._merge(resource, live, {"metadata": {"finalizers": list(finalizers)}})

    async def _merge(
        self, resource: ApiResource, live: Manifest, change: Manifest, subresource: str | None = None
    ) -> Manifest:
        metadata = live["metadata"]
        precondition = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        return await self._transport.request(
            "patch",
            resource.plural if subresource is None else f"{resource.plural}/{subresource}",
            _path(resource, live, subresource),
            parameters={"fieldManager": FIELD_MANAGER},
            body={**change, "metadata": {**change.get("metadata", {}), **precondition}},
            content_type=_MERGE_PATCH,
        )

    async def _own_creation_by_apply(self, resource: ApiResource, live: Manifest) -> Manifest:
        """Let the fields that our POST wrote count as applied, once.

        The server keeps creations and applies of one manager apart; without this a field that a later
        intent leaves out would stay, because the creation still claims it.
        """
        managed = live["metadata"].get("managedFields", [])
        if not any(_is_our_creation(entry) for entry in managed):
            return live
        rewritten = [
            {**entry, "operation": "Apply"} if _is_our_creation(entry) else entry for entry in managed
        ]
        metadata = live["metadata"]
        return await self._transport.request(
            "patch",
            resource.plural,
            _path(resource, live),
            body=[
                {"op": "replace", "path": "/metadata/managedFields", "value": rewritten},
                # Replacing it by itself makes the server refuse the patch if the object has changed since.
                {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            ],
            content_type=_JSON_PATCH,
        )


def _is_our_creation(entry: Manifest) -> bool:
    ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Update"
    return ours and not entry.get("subresource")


def _typed(resource: ApiResource, manifest: Manifest) -> Manifest:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}


def _path(resource: ApiResource, live: Manifest, subresource: str | None = None) -> str:
    ref = ref_of(resource, live)
    return resource.path(ref.namespace, ref.name, subresource)
