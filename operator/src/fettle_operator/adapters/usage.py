"""Who uses an Adapter: references in the specs of other objects. Pure, and a hint-giving index over it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle_operator.resources import (
    ADAPTERS,
    FINETUNEJOBS,
    INFERENCEDEPLOYMENTS,
    ApiResource,
    Manifest,
    ObjectRef,
    ref_of,
)

__all__ = ["USER_KINDS", "UsageIndex", "User", "adapters_used_by", "users_of"]

USER_KINDS: tuple[ApiResource, ...] = (INFERENCEDEPLOYMENTS, FINETUNEJOBS)
_FINISHED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, order=True)
class User:
    """An object that uses an adapter."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def adapters_used_by(resource: ApiResource, manifest: Manifest) -> frozenset[str]:
    """Return the names of the adapters, in the object's own namespace, that it needs."""
    spec = manifest.get("spec") or {}
    if resource == FINETUNEJOBS:
        finished = (manifest.get("status") or {}).get("phase") in _FINISHED
        return frozenset() if finished else frozenset(_names([spec.get("model")]))
    arms = [variant.get("adapter") for variant in _items(spec.get("variants"))]
    shadow = spec.get("shadow") or {}
    return frozenset(_names([spec.get("model"), spec.get("adapter"), shadow.get("adapter"), *arms]))


def users_of(adapter: str, listed: Mapping[ApiResource, Iterable[Manifest]]) -> tuple[User, ...]:
    """Return who of the listed objects uses the adapter, in order."""
    return tuple(
        sorted(
            User(resource.kind, manifest["metadata"]["name"])
            for resource, manifests in listed.items()
            for manifest in manifests
            if adapter in adapters_used_by(resource, manifest)
        )
    )


class UsageIndex:
    """Remembers references as the watch tells them, so that a pass need not list.

    A hint: it is good enough to show `usedBy`, and it is never asked whether a deletion may go on.
    """

    def __init__(self) -> None:
        self._used: dict[ObjectRef, frozenset[ObjectRef]] = {}
        self._users: dict[ObjectRef, set[User]] = {}

    def put(self, resource: ApiResource, manifest: Manifest) -> frozenset[ObjectRef]:
        """Remember an object; return the adapters whose users have changed."""
        return self._replace(ref_of(resource, manifest), _adapters(resource, manifest))

    def drop(self, resource: ApiResource, manifest: Manifest) -> frozenset[ObjectRef]:
        """Forget an object that is gone; return the adapters whose users have changed."""
        return self._replace(ref_of(resource, manifest), frozenset())

    def replace_all(self, resource: ApiResource, listed: Sequence[Manifest]) -> frozenset[ObjectRef]:
        """Take a complete list for the truth; return the adapters whose users have changed."""
        present = {ref_of(resource, manifest): _adapters(resource, manifest) for manifest in listed}
        ghosts = [user for user in self._used if user.resource == resource and user not in present]
        changes = [*present.items(), *((ghost, frozenset[ObjectRef]()) for ghost in ghosts)]
        return frozenset(adapter for user, adapters in changes for adapter in self._replace(user, adapters))

    def users_of(self, namespace: str, adapter: str) -> tuple[User, ...]:
        """Return who is believed to use the adapter, in order."""
        return tuple(sorted(self._users.get(ObjectRef(ADAPTERS, namespace, adapter), ())))

    def _replace(self, ref: ObjectRef, adapters: frozenset[ObjectRef]) -> frozenset[ObjectRef]:
        before = self._used.pop(ref, frozenset())
        user = User(ref.resource.kind, ref.name)
        for adapter in before - adapters:
            self._users[adapter].discard(user)
            if not self._users[adapter]:
                del self._users[adapter]
        for adapter in adapters - before:
            self._users.setdefault(adapter, set()).add(user)
        if adapters:
            self._used[ref] = adapters
        return before ^ adapters


def _adapters(resource: ApiResource, manifest: Manifest) -> frozenset[ObjectRef]:
    namespace = manifest["metadata"]["namespace"]
    return frozenset(ObjectRef(ADAPTERS, namespace, name) for name in adapters_used_by(resource, manifest))


def _names(sources: Iterable[Any]) -> Iterator[str]:
    for source in sources:
        name = ((source or {}).get("adapterRef") or {}).get("name")
        if isinstance(name, str):
            yield name


def _items(value: Any) -> Sequence[Mapping[str, Any]]:
    return value if isinstance(value, list) else ()
