"""Who owns whom: children carry the owner's UID, and only that makes them ours."""

from fettle_operator.resources import ApiResource, Manifest

__all__ = ["controller_of", "is_owned_by", "owner_reference"]


def owner_reference(resource: ApiResource, owner: Manifest) -> Manifest:
    """Return the reference that lets the garbage collector remove a child with its owner."""
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_owned_by(child: Manifest, owner_uid: str) -> bool:
    """Tell whether this very object, not a namesake, controls the child."""
    references = child["metadata"].get("ownerReferences", [])
    return any(reference["uid"] == owner_uid and reference.get("controller") for reference in references)


def controller_of(child: Manifest) -> Manifest | None:
    """Return the reference to the object that controls this one."""
    references: list[Manifest] = child["metadata"].get("ownerReferences", [])
    return next((reference for reference in references if reference.get("controller")), None)
