"""Bringing children into being and keeping them as they should be, without ever touching what is somebody else's."""

from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.drift import holds
from fettle_operator.errors import AlreadyExists, Conflict, NameConflict
from fettle_operator.jobs import Attempt, is_waiting
from fettle_operator.labels import TEMPLATE_HASH
from fettle_operator.ownership import is_owned_by
from fettle_operator.pods import Obstacle, obstacle_of, refusal_of
from fettle_operator.resources import EVENTS, JOBS, ApiResource, Manifest, ref_of

__all__ = ["LOOK_S", "age_s", "create", "look_again_s", "obstacle_of_attempt", "repair_job"]

LOOK_S = 5.0
_LOOK_AT_LEAST_EVERY_S = 60.0
"""Causes that no watch of ours tells of (a claim, an event) are looked for: often at first, then less so."""


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


async def obstacle_of_attempt(cluster: Cluster, attempt: Attempt, now: datetime) -> Obstacle | None:
    """Return what the attempt waits for; events are read only when no pod tells by itself."""
    for pod in attempt.pods:
        if known := obstacle_of(pod):
            return known
    pending = next((pod for pod in attempt.pods if is_waiting(pod)), None)
    if (attempt.pods and pending is None) or age_s(pending or attempt.job, now) < LOOK_S:
        return None
    regarding = pending or attempt.job
    events = await cluster.list(
        EVENTS,
        attempt.job["metadata"]["namespace"],
        fields={"involvedObject.uid": regarding["metadata"]["uid"]},
    )
    return obstacle_of(pending, events) if pending else refusal_of(events)


def look_again_s(waiting: Manifest, now: datetime) -> float:
    """Return the pause before the next look at something that waits: a thousand that wait long must cost little."""
    return min(max(LOOK_S, age_s(waiting, now) / 2), _LOOK_AT_LEAST_EVERY_S)


def age_s(manifest: Manifest, now: datetime) -> float:
    """Return how long an object has existed."""
    return (now - datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])).total_seconds()


def _identity(job: Manifest) -> tuple[str, str | None]:
    metadata = job["metadata"]
    return metadata["name"], metadata.get("annotations", {}).get(TEMPLATE_HASH)
