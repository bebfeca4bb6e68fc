"""Which revision a request asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_server.layer.asgi import Refused
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["REVISION_HEADER", "Names"]

REVISION_HEADER: Final = "x-fettle-revision"


@dataclass(frozen=True, slots=True)
class Names:
    """What the base model is called."""

    alias: str
    """What clients call the model, whichever revision answers."""
    base: str
    """The base model as a revision."""

    @property
    def reserved(self) -> frozenset[str]:
        """Names that no adapter may have."""
        return frozenset((self.alias, self.base))

    def revision(self, pinned: str, model: str | None, adapters: Collection[str]) -> str:
        """Return the revision that is asked for: by the router's header, else by the name of the model."""
        if pinned:
            wanted, said = pinned, f"The revision {shown(pinned)} does not exist."
        elif model is None or model == self.alias:
            return self.base
        else:
            wanted = model.removeprefix(f"{self.alias}@")
            said = f"The model {shown(model)} does not exist. GET /v1/models lists those that do."
        if wanted != self.base and wanted not in adapters:
            raise Refused(404, "model_not_found", said, None if pinned else "model")
        return wanted
