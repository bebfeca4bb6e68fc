"""Brings a rendering into force in a real HAProxy and proves that it is there."""

import logging
from collections.abc import Sequence
from typing import Final

from fettle_router import files
from fettle_router.errors import HaproxyFailed
from fettle_router.layout import Layout
from fettle_router.plan import Action, carry_over, plan
from fettle_router.process import HaproxyProcess, check
from fettle_router.render import Rendered
from fettle_router.runtime import Runtime

__all__ = ["Engine"]

_log: Final = logging.getLogger(__name__)


class Engine:
    """One HAProxy and the rendering that it serves."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.runtime = Runtime(layout)
        self.process = HaproxyProcess(layout)
        self.current: Rendered | None = None
        self.reloads = 0
        self.runtime_changes = 0

    async def serve(self, wanted: Rendered, candidate: Rendered) -> None:
        """Serve a rendering; `candidate` is the same one for a folder where HAProxy may judge it first.

        On any failure the former rendering stays in force, on disk as well.
        """
        steps = plan(self.current if self.process.running else None, wanted)
        if steps.reload:
            await check(candidate, files.candidate_of(self.layout))
            if self.current and self.process.running:
                await self._prepare_the_old(carry_over(self.current, wanted))
            await self._reload(wanted)
        elif steps.actions:
            await self._change(wanted, steps.actions)
        self.current = wanted

    async def in_force(self) -> bool:
        """Compare HAProxy's memory with the rendering that it should serve."""
        if self.current is None:
            return False
        loaded = await self.runtime.loaded()
        if loaded.structure != self.current.structure:
            return False
        maps = [await self.runtime.map(name) == entries for name, entries in self.current.maps.items()]
        pools = [await self.runtime.slots(pool) == slots for pool, slots in self.current.slots.items()]
        return all(maps + pools)

    async def repair(self) -> None:
        """Reload what should be in force; for a HAProxy whose memory was changed by somebody else."""
        if self.current is not None:
            await self._reload(self.current)

    async def _change(self, wanted: Rendered, actions: Sequence[Action]) -> None:
        files.write(wanted, self.layout)
        try:
            await self.runtime.apply(actions)
            self.runtime_changes += 1
        except HaproxyFailed as error:
            # Some of the changes are made and some not; the files are complete, so a reload makes it whole.
            _log.warning("a change at run time failed, HAProxy is reloaded instead: %s", error)
            await self._reload(wanted)

    async def _prepare_the_old(self, actions: Sequence[Action]) -> None:
        try:
            await self.runtime.apply(actions)
        except HaproxyFailed as error:
            _log.warning(
                "the HAProxy process that is being replaced could not be told all changes: %s", error
            )

    async def _reload(self, wanted: Rendered) -> None:
        files.write(wanted, self.layout)
        try:
            await self.process.load(wanted)
            self.reloads += 1
        except HaproxyFailed:
            if self.current is not None:
                files.write(self.current, self.layout)
            raise
