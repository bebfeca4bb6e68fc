"""Kinds that this version knows but does not act on yet: their objects say so, and nobody is left guessing."""

from datetime import datetime

from fettle_operator.conditions import READY, Condition
from fettle_operator.engine.report import Report
from fettle_operator.reasons import Reason
from fettle_operator.resources import ApiResource, Manifest

__all__ = ["UnavailableController"]


class UnavailableController:
    """Reports that nothing will happen to the objects of a kind."""

    finalizer: str | None = None

    def __init__(self, resource: ApiResource) -> None:
        self.resource = resource

    async def reconcile(self, live: Manifest, now: datetime) -> Report:  # noqa: ARG002 - the frame's interface
        """Leave the object alone and say so; what its status holds otherwise is not ours to change."""
        sentence = (
            f"this version of the operator does not act on a {self.resource.kind} yet; nothing will happen"
        )
        ready = Condition(READY, "False", Reason.CONTROLLER_NOT_AVAILABLE, sentence)
        status = live.get("status") or {}
        kept = {
            key: value for key, value in status.items() if key not in {"conditions", "observedGeneration"}
        }
        return Report((ready,), kept)
