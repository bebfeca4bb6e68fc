"""A cluster in a dictionary, with the same port as the real one; a contract test holds the two together.

Failures and crashes can be put in front of any call.
"""

import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fettle_operator.cluster.merge import merge_patch
from fettle_operator.conditions import timestamp
from fettle_operator.errors import AlreadyExists, ClusterError, Conflict, NotFound
from fettle_operator.resources import ApiResource, Manifest, ObjectRef, ref_of

__all__ = ["Call", "FakeCluster"]

Call = tuple[str, str]
"""Verb and plural, as in `("create", "jobs")`."""


@dataclass
class FakeCluster:
    """Objects by address."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    objects: dict[ObjectRef, Manifest] = field(default_factory=dict)
    applied: dict[str, Manifest] = field(default_factory=dict)
    """What was last sent for each UID, so that a field left out later can be removed."""
    calls: list[Call] = field(default_factory=list)
    failures: dict[Call, list[ClusterError]] = field(default_factory=dict)
    """Errors to raise instead of doing the call, one for each time."""
    lost_replies: dict[Call, list[ClusterError]] = field(default_factory=dict)
    """Errors to raise after the call was done."""
    version: int = 0

    def writes(self) -> list[Call]:
        """Return the calls that changed something or tried to."""
        return [call for call in self.calls if call[0] not in {"get", "list"}]

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """Return the object as it is now, or None."""
        self._enter("get", ref.resource.plural)
        return copy.deepcopy(self.objects.get(ref))

    async def list(
        self,
        resource: ApiResource,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """Return the objects that match."""
        self._enter("list", resource.plural)
        return [
            copy.deepcopy(manifest)
            for ref, manifest in self.objects.items()
            if ref.resource == resource
            and namespace in {None, ref.namespace}
            and (labels or {}).items() <= manifest["metadata"].get("labels", {}).items()
            and all(_at(manifest, path) == value for path, value in (fields or {}).items())
        ]

    async def scan(self, resource: ApiResource, namespace: str | None) -> AsyncIterator[Manifest]:
        """Yield all objects of a kind."""
        for found in await self.list(resource, namespace):
            yield found

    async def create(self, resource: ApiResource, manifest: Manifest) -> Manifest:
        """Create an object; raise AlreadyExists if its name is taken."""
        self._enter("create", resource.plural)
        ref = ref_of(resource, manifest)
        if ref in self.objects:
            raise AlreadyExists(f"create {resource.plural}: {ref} already exists")
        made = copy.deepcopy(manifest)
        identity = {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(self.now()), "generation": 1}
        made["metadata"] = {**made["metadata"], **identity}
        self.applied[made["metadata"]["uid"]] = copy.deepcopy(manifest)
        return self._leave("create", resource, ref, made)

    async def apply(self, resource: ApiResource, manifest: Manifest, live: Manifest) -> Manifest:
        """Make this very object what the manifest says; fields left out since are removed."""
        self._enter("patch", resource.plural)
        ref = ref_of(resource, manifest)
        found = self.objects.get(ref)
        if found is None or found["metadata"]["uid"] != live["metadata"]["uid"]:
            raise Conflict(f"patch {resource.plural}: {ref} is another object")
        uid = found["metadata"]["uid"]
        change = merge_patch(self.applied.get(uid, {}), manifest)
        result = _merged(_merged(found, change), manifest)
        self.applied[uid] = copy.deepcopy(manifest)
        return self._leave("patch", resource, ref, result)

    async def delete(self, resource: ApiResource, live: Manifest) -> None:
        """Delete the object if it is still exactly what was read; raise Conflict if it is not."""
        self._enter("delete", resource.plural)
        ref = ref_of(resource, live)
        found = self.objects.get(ref)
        if found is None:
            return
        self._check(found, live)
        if found["metadata"].get("finalizers"):
            dying = {**found["metadata"], "deletionTimestamp": timestamp(self.now())}
            self._leave("delete", resource, ref, {**found, "metadata": dying})
        else:
            del self.objects[ref]

    async def write_status(self, resource: ApiResource, live: Manifest, status: Manifest) -> Manifest:
        """Replace the status of the object that was read; raise Conflict if it has changed since."""
        self._enter("patch", f"{resource.plural}/status")
        ref, found = self._found(resource, live)
        changed = {**found, "status": copy.deepcopy(status)}
        return self._leave("patch", resource, ref, changed, f"{resource.plural}/status")

    async def write_finalizers(
        self, resource: ApiResource, live: Manifest, finalizers: Sequence[str]
    ) -> Manifest:
        """Replace the finalizers of the object that was read; raise Conflict if it has changed since."""
        self._enter("patch", resource.plural)
        ref, found = self._found(resource, live)
        metadata = {**found["metadata"], "finalizers": [*finalizers]}
        result = self._leave("patch", resource, ref, {**found, "metadata": metadata})
        if not finalizers and "deletionTimestamp" in metadata:
            del self.objects[ref]
        return result

    def _enter(self, verb: str, plural: str) -> None:
        self.calls.append((verb, plural))
        if self.failures.get((verb, plural)):
            raise self.failures[verb, plural].pop(0)

    def _leave(
        self, verb: str, resource: ApiResource, ref: ObjectRef, manifest: Manifest, plural: str | None = None
    ) -> Manifest:
        before = self.objects.get(ref)
        if before is None or _content(before) != _content(manifest):
            self.version += 1
            manifest["metadata"] = {**manifest["metadata"], "resourceVersion": str(self.version)}
        self.objects[ref] = manifest
        call = (verb, plural or resource.plural)
        if self.lost_replies.get(call):
            raise self.lost_replies[call].pop(0)
        return copy.deepcopy(manifest)

    def _found(self, resource: ApiResource, live: Manifest) -> tuple[ObjectRef, Manifest]:
        ref = ref_of(resource, live)
        found = self.objects.get(ref)
        if found is None:
            raise NotFound(f"patch {resource.plural}: {ref} does not exist")
        self._check(found, live)
        return ref, found

    def _check(self, found: Manifest, live: Manifest) -> None:
        ours, theirs = live["metadata"], found["metadata"]
        if (ours["uid"], ours["resourceVersion"]) != (theirs["uid"], theirs["resourceVersion"]):
            raise Conflict("the object has been modified")


def _merged(base: Any, change: Any) -> Any:
    """Apply a merge patch."""
    if not isinstance(change, dict):
        return copy.deepcopy(change)
    result = dict(base) if isinstance(base, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _content(manifest: Manifest) -> str:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "resourceVersion"}
    return json.dumps({**manifest, "metadata": metadata}, sort_keys=True)


def _at(manifest: Manifest, path: str) -> Any:
    found: Any = manifest
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
