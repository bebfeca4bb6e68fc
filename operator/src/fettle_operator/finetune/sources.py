"""What a FineTuneJob starts from: a model on a claim or on the hub, and perhaps an earlier adapter of it. Pure."""

from dataclasses import dataclass

from fettle_operator.conditions import READY, find
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import Manifest

__all__ = ["Start", "continued_adapter", "start_of"]


@dataclass(frozen=True)
class Start:
    """The base model, and the adapter to go on from if there is one."""

    base: Manifest
    """As in `Adapter.spec.baseModel`: exactly one of volume and huggingFace."""
    adapter: Manifest | None = None
    """The adapter's place: claimName and path."""

    @property
    def hub(self) -> Manifest | None:
        """Return the repository, if the base model comes from the hub."""
        found: Manifest | None = self.base.get("huggingFace")
        return found

    @property
    def claims(self) -> tuple[str, ...]:
        """Return the claims that all of it lies on."""
        places = [self.base.get("volume"), self.adapter]
        return tuple(place["claimName"] for place in places if place)


def continued_adapter(live: Manifest) -> str | None:
    """Return the name of the Adapter that the job goes on from."""
    reference = live["spec"]["model"].get("adapterRef")
    return reference["name"] if reference else None


def start_of(live: Manifest, earlier: Manifest | None) -> Start | Obstacle:
    """Return what the job starts from; `earlier` is the Adapter that `continued_adapter` names, if it exists."""
    name = continued_adapter(live)
    if name is None:
        return Start(live["spec"]["model"])
    if earlier is None:
        return Obstacle(
            Reason.ADAPTER_NOT_READY,
            f"Adapter {name} of spec.model.adapterRef does not exist in this namespace; create it, or correct the name",
        )
    status = earlier.get("status") or {}
    ready = find(status.get("conditions", []), READY)
    if ready is None or ready.status != "True" or "location" not in status:
        told = f": {ready.message}" if ready else ""
        return Obstacle(
            Reason.ADAPTER_NOT_READY, f"Adapter {name} of spec.model.adapterRef is not Ready{told}"
        )
    base = earlier["spec"].get("baseModel")
    if not base:
        return Obstacle(
            Reason.NOT_SUPPORTED,
            f"Adapter {name} does not say where its base model lies; create it again with spec.baseModel",
        )
    return Start(base, status["location"])
