"""What the pods that the operator makes may not do, whoever's files they read. Pure.

It is more than Pod Security's `restricted` asks for: no token of the API server, no writable root, no environment full
of the namespace's Services.
"""

from fettle_operator.resources import Manifest

__all__ = ["confined_container", "confined_pod"]

_USER = 10001
"""The images' own user; it also owns what the pods write into a store."""


def confined_pod() -> Manifest:
    """Return what the spec of every pod begins with."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            # A store with many files would otherwise have the owner of each changed before every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def confined_container() -> Manifest:
    """Return the security context of every container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
