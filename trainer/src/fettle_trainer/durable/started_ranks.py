"""Ranks that a torchrun of the user's own has started: how many there are it says, whatever the run's file says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_trainer.config.run import DistributedConfig

_PLACE: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
"""Only a launcher sets all of them: some platforms set RANK and WORLD_SIZE for processes that are to launch ranks."""


def is_started_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of its ranks, of which there may be only one."""
    return all(name in environment for name in _PLACE)


def as_started(
    distributed: DistributedConfig, environment: Mapping[str, str] = os.environ
) -> DistributedConfig:
    """Return the layout with as many nodes and processes as there really are."""
    world, here = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
    if world % here:
        message = (
            f"{world} processes are no whole number of nodes with {here} each. Start as many on every node."
        )
        raise WrongInputError("RanksUneven", message, "distributed.processesPerNode")
    return distributed.model_copy(update={"nodes": world // here, "processes_per_node": here})
