"""Bringing children into being and keeping them as they should be, without ever touching what is somebody else's."""

from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.drift import holds
from fettle_operator.errors import AlreadyExists, Conflict, NameConflict
from fettle_operator.labels import TEMPLATE_HASH
from fettle_operator.ownership import is_owned_by
from fettle_operator.resources import JOBS, ApiResource, Manifest, ref_of

__all__ = ["LOOK_S", "age_s", "create", "repair_job"]

LOOK_S = 5.0
"""How often something is looked at that nobody may tell of."""


async def create(cluster: Cluster, resource: ApiResource, manifest: Manifest, owner: Manifest) -> None:
    """Create a child; a namesake that belongs to somebody else stays untouched."""
    try:
        await cluster.create(resource, manifest)
    except AlreadyExists as error:
        taken = await cluster.get(ref_of(resource, manifest))
        if taken is None:
            raise Conflict(str(error)) from error
        if not is_owned_by(taken, owner["metadata"]["uid"]):
            raise NameConflict(
                f"{resource.kind} {manifest['metadata']['name']} exists already and does not belong to this "
                f"{owner.get('kind', 'object')}; delete or rename that {resource.kind}"
            ) from error
        # Ours, but perhaps without the labels by which a Job is found.
        if resource == JOBS and not holds({"metadata": {"labels": manifest["metadata"]["labels"]}}, taken):
            await cluster.apply(resource, manifest, taken)


async def repair_job(cluster: Cluster, resource: ApiResource, job: Manifest, live: Manifest) -> None:
    """Undo what others changed. A Job of an older template is left to end: it cannot be changed."""
    if "deletionTimestamp" in live["metadata"] or _identity(job) != _identity(live):
        return
    ours = {"metadata": {"labels": job["metadata"]["labels"]}, "spec": job["spec"]}
    if not holds(ours, live):
        await cluster.apply(resource, job, live)


def age_s(manifest: Manifest, now: datetime) -> float:
    """Return how long an object has existed."""
    return (now - datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])).total_seconds()


def _identity(job: Manifest) -> tuple[str, str | None]:
    metadata = job["metadata"]
    return metadata["name"], metadata.get("annotations", {}).get(TEMPLATE_HASH)
