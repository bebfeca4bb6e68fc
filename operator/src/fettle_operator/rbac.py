"""Every permission that the operator uses, as data.

The chart's Roles are tested equal to this list, and the permission tests of the suite compare it with
what the API server's audit log saw. A namespaced installation grants it in each watched namespace, a
cluster-wide one once. Nothing here reads a Secret, runs a command in a pod or uses a wildcard.
"""

from dataclasses import dataclass

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """What may be done with one resource."""

    api_group: str
    """Empty for the core group."""
    resource: str
    """Plural, with its subresource if any."""
    verbs: tuple[str, ...]
    reason: str
    """Why the operator cannot do without."""


RULES: tuple[Rule, ...] = (
    Rule(
        "fettle.dev",
        "adapters",
        ("get", "list", "watch", "create", "patch"),
        "reconciled; created for what a FineTuneJob made; patched for its finalizer alone",
    ),
    Rule("fettle.dev", "adapters/status", ("patch",), "what the operator found"),
    Rule("fettle.dev", "finetunejobs", ("get", "list", "watch"), "reconciled; may use an Adapter"),
    Rule("fettle.dev", "finetunejobs/status", ("patch",), "what the operator found"),
    Rule("fettle.dev", "inferencedeployments", ("get", "list", "watch"), "reconciled; may use an Adapter"),
    Rule("fettle.dev", "inferencedeployments/status", ("patch",), "what the operator found"),
    Rule(
        "batch",
        "jobs",
        ("get", "list", "watch", "create", "patch", "delete"),
        "verification and training run as Jobs; deleted when suspended, overdue, or past their time to live",
    ),
    Rule("", "services", ("get", "create"), "the pods of one training find each other by name"),
    Rule("", "configmaps", ("get", "create"), "the run configuration of a training"),
    Rule("", "pods", ("list", "watch"), "a Job's pods say why it waits and what it found"),
    Rule(
        "",
        "persistentvolumeclaims",
        ("get", "create"),
        "a missing or unbound claim is named before a pod waits for it; a store is made where none is named",
    ),
    Rule(
        "",
        "events",
        ("create", "list"),
        "transitions are announced; a Job's events tell of an exceeded quota",
    ),
)
