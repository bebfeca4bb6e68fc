"""A stock kopf operator, as kopf's tutorial has it: for the comparison in the fault tests.

It handles ConfigMaps with the label `stock`, with `on.create` and `on.delete`, and keeps kopf's finalizer.
"""

import sys
from typing import Any

import kopf

REGISTRY = kopf.OperatorRegistry()
SELECTED: dict[str, Any] = {"labels": {"stock": "yes"}, "registry": REGISTRY}


@kopf.on.login(registry=REGISTRY)
async def login(**_: Any) -> kopf.ConnectionInfo:
    """Speak plainly to the proxy."""
    return kopf.ConnectionInfo(server=sys.argv[1])


@kopf.on.create("", "v1", "configmaps", **SELECTED)
async def created(patch: kopf.Patch, **_: Any) -> None:
    """Leave a mark."""
    patch.metadata.annotations["handled"] = "yes"


@kopf.on.delete("", "v1", "configmaps", **SELECTED)
async def deleted(**_: Any) -> None:
    """Make kopf keep a finalizer, as every operator with clean-up does."""


def main() -> None:
    """Run until killed: `stock_kopf.py URL NAMESPACE`."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    kopf.run(registry=REGISTRY, settings=settings, namespaces=[sys.argv[2]])


if __name__ == "__main__":
    main()
