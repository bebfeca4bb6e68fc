"""The watches: kopf's low-level events wake loops and decide nothing (docs/adr/0003).

Only `on.event` is used: it needs no finalizer and no annotation, so kopf writes nothing to the cluster.
"""

from typing import Any

import kopf

from fettle_operator.adapters.usage import USER_KINDS, UsageIndex
from fettle_operator.engine.loops import Loops
from fettle_operator.labels import OWNER_UID
from fettle_operator.resources import ADAPTERS, JOBS, PODS, ApiResource, Manifest, ref_of

__all__ = ["CHILDREN", "KINDS", "watch"]

KINDS: tuple[ApiResource, ...] = (ADAPTERS, *USER_KINDS)
"""Kinds that have a controller."""
CHILDREN: tuple[ApiResource, ...] = (JOBS, PODS)
"""Kinds whose objects wake the object that owns them."""


def watch(registry: kopf.OperatorRegistry, loops: Loops, usage: UsageIndex) -> None:
    """Register a handler for every watched kind."""
    for resource in KINDS:
        _wake_itself(registry, resource, loops)
    for resource in USER_KINDS:
        _wake_adapters(registry, resource, loops, usage)
    for resource in (*CHILDREN, ADAPTERS):
        _wake_owner(registry, resource, loops)


def _wake_itself(registry: kopf.OperatorRegistry, resource: ApiResource, loops: Loops) -> None:
    @kopf.on.event(*_names(resource), registry=registry, id=f"wake-{resource.plural}")
    async def changed(body: kopf.Body, **_: Any) -> None:
        manifest: Manifest = dict(body)
        metadata = manifest["metadata"]
        loops.wake(ref_of(resource, manifest), metadata["resourceVersion"], metadata["uid"])


def _wake_adapters(
    registry: kopf.OperatorRegistry, resource: ApiResource, loops: Loops, usage: UsageIndex
) -> None:
    @kopf.on.event(*_names(resource), registry=registry, id=f"wake-adapters-of-{resource.plural}")
    async def user_changed(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
        manifest: Manifest = dict(body)
        remember = usage.drop if type == "DELETED" else usage.put
        for adapter in remember(resource, manifest):
            loops.wake(adapter)


def _wake_owner(registry: kopf.OperatorRegistry, resource: ApiResource, loops: Loops) -> None:
    @kopf.on.event(*_names(resource), registry=registry, id=f"wake-owner-of-{resource.plural}")
    async def child_changed(labels: kopf.Labels, **_: Any) -> None:
        if uid := labels.get(OWNER_UID):
            loops.wake_uid(uid)


def _names(resource: ApiResource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural
