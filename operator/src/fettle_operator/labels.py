"""Labels, annotations and finalizers: the words by which objects are found, in their one home."""

from collections.abc import Mapping

__all__ = [
    "ATTEMPT",
    "CHECKER",
    "COMPONENT",
    "IN_USE_FINALIZER",
    "MANAGED_BY",
    "MANAGED_SELECTOR",
    "MANAGER",
    "NAME",
    "OWNER_KIND",
    "OWNER_NAME",
    "OWNER_UID",
    "RESULT",
    "STORE",
    "TEMPLATE_HASH",
    "TRAINER",
    "VERIFIER",
    "child_labels",
    "selector",
]

MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MANAGER = "fettle-operator"
"""The value of `managed-by` on everything that the operator creates."""

OWNER_KIND = "fettle.dev/owner-kind"
OWNER_NAME = "fettle.dev/owner-name"
OWNER_UID = "fettle.dev/owner-uid"
ATTEMPT = "fettle.dev/attempt"

VERIFIER = "verifier"
"""Component of the pods that verify adapters; network policies select by it."""
CHECKER = "checker"
"""Component of the pods that read the data of a FineTuneJob."""
TRAINER = "trainer"
"""Component of the pods that train."""
STORE = "store"
"""Component of the claims that keep results."""
RESULT = "result"
"""Component of the Adapters that FineTuneJobs make."""

TEMPLATE_HASH = "fettle.dev/template-hash"
"""Annotation: which pod template a Job was made with. A Job's template cannot be changed afterwards."""

IN_USE_FINALIZER = "fettle.dev/in-use"
"""Keeps an Adapter until nothing refers to it any more."""

MANAGED_SELECTOR = f"{MANAGED_BY}={MANAGER}"
_LABEL_VALUE_MAX = 63


def child_labels(component: str, owner_kind: str, owner_name: str, owner_uid: str) -> dict[str, str]:
    """Labels of every child and of its pods; the UID finds it, the rest is for people."""
    return {
        MANAGED_BY: MANAGER,
        NAME: "fettle",
        COMPONENT: component,
        OWNER_KIND: owner_kind,
        # A name may be longer than a label value; nothing is looked up by this label.
        OWNER_NAME: owner_name[:_LABEL_VALUE_MAX].rstrip("-."),
        OWNER_UID: owner_uid,
    }


def selector(labels: Mapping[str, str]) -> str:
    """Write labels as the API server's selector syntax."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
