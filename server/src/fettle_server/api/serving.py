"""An engine and how far the process is with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_server.layer.asgi import Refused

if TYPE_CHECKING:
    from fettle_server.api.port import ServingEngine

__all__ = ["Serving"]

_LATER_S: Final = 5


@dataclass
class Serving:
    """From loading the model to the last answer."""

    engine: ServingEngine
    started: bool = False
    """Whether the engine can be asked for anything."""
    stopping: bool = False

    @property
    def ready(self) -> bool:
        """Whether requests are wanted now."""
        return self.started and not self.stopping and self.engine.ready

    @property
    def running(self) -> ServingEngine:
        """The engine; refuses the request while the model is being loaded."""
        if not self.started:
            raise Refused(503, "loading", "The model is still being loaded.", retry_after_s=_LATER_S)
        return self.engine
