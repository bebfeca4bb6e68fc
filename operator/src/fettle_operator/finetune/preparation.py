"""Everything that has to be there before a pod is asked for: the profile, the start, the claims, the configuration."""

from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.errors import NameConflict
from fettle_operator.finetune.children import adapter_name, store_claim
from fettle_operator.finetune.desired import Run, config_map, nodes_of, rendezvous, store
from fettle_operator.finetune.places import places_of
from fettle_operator.finetune.sources import Start, continued_adapter, start_of
from fettle_operator.labels import OWNER_UID
from fettle_operator.lookout import Lookout
from fettle_operator.owned import create
from fettle_operator.ownership import is_owned_by
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import (
    ADAPTERS,
    CLAIMS,
    CONFIGMAPS,
    SERVICES,
    ApiResource,
    Manifest,
    ObjectRef,
    ref_of,
)
from fettle_operator.settings import Settings

__all__ = ["Preparation"]


class Preparation:
    """Looks for what a job needs, and makes what is the operator's to make."""

    def __init__(self, cluster: Cluster, lookout: Lookout, settings: Settings, live: Manifest) -> None:
        self._cluster = cluster
        self._lookout = lookout
        self._settings = settings
        self._live = live
        self._namespace: str = live["metadata"]["namespace"]

    async def start(self) -> Start | Obstacle:
        """Return what the job starts from."""
        name = continued_adapter(self._live)
        earlier = await self._get(ADAPTERS, name) if name else None
        return start_of(self._live, earlier)

    async def run(self, micro_batch: int | None, grace_s: int) -> Run | Obstacle:
        """Return what pods are made of, or what is missing for it."""
        name = self._live["spec"]["profile"]
        profile = self._settings.profiles.get(name)
        if profile is None:
            known = ", ".join(sorted(self._settings.profiles)) or "none"
            sentence = f"spec.profile: there is no profile {name}; the administrator has set up: {known}"
            return Obstacle(Reason.PROFILE_NOT_FOUND, sentence)
        start = await self.start()
        if isinstance(start, Obstacle):
            return start
        return Run(self._live, start, profile, self._settings, micro_batch, grace_s)

    async def complete(self, run: Run, *, is_first: bool = False) -> Obstacle | None:
        """Make claim, configuration and names, or return what only the user can provide.

        For the first pod of a job nothing of this has been made yet, and looking for it would cost a request.
        """
        await self._require_free_name()
        for name in places_of(self._live, run.start).claims:
            if name != store_claim(self._live) and await self._get(CLAIMS, name) is None:
                return _missing(name)
        if obstacle := await self._store():
            return obstacle
        wanted = [(CONFIGMAPS, config_map(run))]
        if nodes_of(run.spec) > 1:
            wanted.append((SERVICES, rendezvous(self._live)))
        for resource, manifest in wanted:
            if is_first or not await self._has(resource, manifest):
                await create(self._cluster, resource, manifest, self._live)
        return None

    def look_again_s(self, now: datetime) -> float:
        """Return when to look again for something that is missing."""
        return self._lookout.again_in_s(self._live, now)

    async def _store(self) -> Obstacle | None:
        name, wanted = store_claim(self._live), (self._live["spec"].get("output") or {}).get("store") or {}
        found = await self._get(CLAIMS, name)
        if wanted.get("claimName"):
            return None if found else _missing(name)
        uid = self._live["metadata"]["uid"]
        if found is None:
            await self._cluster.create(CLAIMS, store(self._live))
        elif found["metadata"].get("labels", {}).get(OWNER_UID) != uid:
            raise NameConflict(
                f"PersistentVolumeClaim {name} exists already and was not made for this FineTuneJob; "
                "delete it, or name a claim in spec.output.store.claimName"
            )
        return None

    async def _require_free_name(self) -> None:
        """Say before the training, not after it, that there is no place for its result."""
        name = adapter_name(self._live)
        taken = await self._get(ADAPTERS, name)
        if taken is not None and not is_owned_by(taken, self._live["metadata"]["uid"]):
            raise NameConflict(
                f"Adapter {name} exists already and does not belong to this FineTuneJob; "
                "choose another spec.output.adapterName, or delete that Adapter"
            )

    async def _has(self, resource: ApiResource, manifest: Manifest) -> bool:
        """Say whether a child is there and ours; such a one is left as it is."""
        found = await self._cluster.get(ref_of(resource, manifest))
        return found is not None and is_owned_by(found, self._live["metadata"]["uid"])

    async def _get(self, resource: ApiResource, name: str) -> Manifest | None:
        return await self._cluster.get(ObjectRef(resource, self._namespace, name))


def _missing(claim: str) -> Obstacle:
    sentence = (
        f"PersistentVolumeClaim {claim} does not exist in this namespace; create it, or correct the name"
    )
    return Obstacle(Reason.CLAIM_NOT_FOUND, sentence)
