"""The one file that says which cluster is wanted, and the lock that lets only one command work on it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster import files
from devcluster.errors import DevclusterError
from devcluster.paths import state_root
from devcluster.plan import MAX_INSTANCES, Plan, check_counts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

FILE = "cluster.json"


@dataclass(frozen=True)
class Wanted:
    """The cluster that `up` was asked for last; what the world lacks of it, the next `up` makes."""

    index: int
    nodes: int
    fake_gpus: int


def load(state: Path) -> Wanted | None:
    """Return what was asked for, or None where no cluster was."""
    try:
        content = json.loads((state / FILE).read_text())
    except FileNotFoundError:
        return None
    return Wanted(index=content["index"], nodes=content["nodes"], fake_gpus=content["fakeGpus"])


def store(state: Path, wanted: Wanted) -> None:
    """Record what is asked for, before anything of it is made."""
    state.mkdir(parents=True, exist_ok=True)
    state.chmod(0o700)
    content = {"index": wanted.index, "nodes": wanted.nodes, "fakeGpus": wanted.fake_gpus}
    files.write(state / FILE, json.dumps(content, indent=2))


def plan(instance: str, cache: Path, wanted: Wanted) -> Plan:
    """Return the plan of a wanted cluster."""
    return Plan(
        instance=instance,
        index=wanted.index,
        state=state_root(instance),
        cache=cache,
        node_count=wanted.nodes,
        fake_gpus=wanted.fake_gpus,
    )


def decide(
    recorded: Wanted | None, *, nodes: int | None, fake_gpus: int | None, taken: Collection[int]
) -> Wanted:
    """Return the cluster to make: what the command line names, else what is recorded, else the defaults."""
    before = recorded or Wanted(index=lowest_free(taken), nodes=1, fake_gpus=0)
    after = Wanted(
        index=before.index,
        nodes=before.nodes if nodes is None else nodes,
        fake_gpus=before.fake_gpus if fake_gpus is None else fake_gpus,
    )
    check_counts(after.nodes, after.fake_gpus)
    if after.nodes < before.nodes:
        raise DevclusterError(
            f"the cluster has {before.nodes} nodes and cannot shrink to {after.nodes}; run `down` first"
        )
    return after


def lowest_free(taken: Collection[int]) -> int:
    """Return the lowest index that no other cluster uses."""
    for index in range(MAX_INSTANCES):
        if index not in taken:
            return index
    raise DevclusterError(
        f"{MAX_INSTANCES} clusters run on this machine already; run `down` for one of them first"
    )


def others(instance: str) -> dict[Path, Wanted]:
    """Return the recorded clusters beside this one, by their state folder."""
    default, own = state_root(), state_root(instance)
    found = {folder: load(folder) for folder in default.parent.glob(f"{default.name}*") if folder != own}
    return {folder: wanted for folder, wanted in found.items() if wanted is not None}


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for this command alone; the lock needs no file of its own and ends with the process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevclusterError(
                f"another devcluster command works on {folder}; wait for its end and run this one again"
            ) from error
        yield
    finally:
        os.close(handle)
